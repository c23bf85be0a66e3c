"""The tests of a program as the compiler leaves them: examples with what must hold of their outputs, and score gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmprog.compiler.expressions.compiled import Expression


@dataclass(frozen=True)
class Check:
    """A condition of a test's `expect:`: its `kind`, and the `value` to compare with.

    The kinds are the keys of CHECKS in the grammar of tests, as `equals`, `contains` and `one_of`. The output or field that it
    is about is the key under which its owner holds it. `within` is the distance that a number may have from `value` (None:
    none).
    """

    kind: str
    value: Any
    """The value that is wanted; of `contains` and `excludes` a list, of `partial` the checks of each field, by name."""
    within: float | None = None
    """The greatest distance from the number that `equals` wants; None for an exact value."""


Expected = tuple[Check, ...]


@dataclass(frozen=True, eq=False)
class ExampleTest:
    """A named test that runs the program on `inputs` and checks its outputs: by `expect`, by expressions that must be true
    (`asserts`), and by a metric (None: none) that must score `at_least`."""

    name: str
    inputs: Mapping[str, Any]
    expect: Mapping[str, Expected] = field(default_factory=dict)
    """The checks of each output, by name."""
    asserts: tuple[Expression, ...] = ()
    """Expressions over inputs, outputs, vars and trace that must be true."""
    metric: str | None = None
    at_least: float = 0.0
    """The least score by `metric`."""

    @property
    def row(self) -> dict[str, Any]:
        """The row that the test's metric reads: by name the inputs, and the outputs that are expected to equal a value
        without tolerance, which win over inputs of the same name."""
        return {**self.inputs, **exact(self.expect)}


@dataclass(frozen=True, eq=False)
class GateTest:
    """A named test that requires the mean score by a metric, on a data split (`data`), to be `at_least` a value."""

    name: str
    data: str
    metric: str
    at_least: float


def exact(expect: Mapping[str, Expected]) -> dict[str, Any]:
    """Return, by output, the expected values of the outputs that must equal a value without tolerance; the others are
    left out."""
    return {
        name: check.value
        for name, checks in expect.items()
        for check in checks
        if check.kind == "equals" and check.within is None
    }
