"""What an optimizer is, and where it is found: the whole contract with one written elsewhere.

A package offers an optimizer by an entry point of the group `lmprog.optimizers`, named as it stands in `stages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from lmprog.errors import LmprogError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

    from lmprog.optimizers.budget import Budget
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.journal import Journal
    from lmprog.program import Program

GROUP = "lmprog.optimizers"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """All that an optimizer gets. The test split is not in it.

    `program` is the best so far, its LMs metered by `budget`; what may be tuned is in `program.plan.optimize`. `train` rows
    are for learning, `dev` rows for choosing. Files go under `journal.folder`.
    """

    program: Program
    train: Sequence[Row]
    dev: Sequence[Row]
    metric: str
    budget: Budget
    journal: Journal
    seed: int


@runtime_checkable
class Optimizer(Protocol):
    """Made with its `Config`, the options that stand in the spec; `most_calls` bounds what `optimize` may ask of LMs."""

    name: ClassVar[str]
    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: Any) -> None: ...

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        """At most this many LM calls for so many train and dev rows; `--dry-run` shows it."""
        ...

    def optimize(self, task: Task) -> Candidate:
        """The change to `task.program` that is worth making; an empty Candidate where none is.

        Runs in a thread without an event loop. Raises BudgetExceeded only where nothing at all could be done.
        """
        ...


BUILT_IN = {
    "prompt_search": "lmprog.optimizers.prompt_search:PromptSearch",
    "grpo": "lmprog.optimizers.grpo:GRPO",
}
"""Known without asking what is installed: that question alone would be a good part of what `lmprog check` takes."""


def installed() -> dict[str, EntryPoint]:
    """Every optimizer by name; one of another package cannot take the name of a built-in one."""
    from importlib.metadata import EntryPoint, entry_points

    others = {point.name: point for point in entry_points(group=GROUP)}
    return others | {name: EntryPoint(name, home, GROUP) for name, home in BUILT_IN.items()}


def find(name: str) -> type[Optimizer]:
    """The optimizer that `stages` calls `name`. Raises UsageError where none is installed under it."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        built_in: type[Optimizer] = getattr(import_module(module), attribute)
        return built_in
    known = installed()
    if name not in known:
        raise UsageError(f"there is no optimizer {name!r}; installed are {', '.join(sorted(known))}")
    return _loaded(known[name])


def config_of(name: str) -> type[BaseModel] | None:
    """The options of an optimizer, or None where none of that name is installed."""
    try:
        return find(name).Config
    except UsageError:
        return None


def _loaded(point: EntryPoint) -> type[Optimizer]:
    try:
        made: type[Optimizer] = point.load()
    except ImportError as error:
        raise LmprogError(
            f"the optimizer {point.name!r} cannot be imported ({error}); install what it needs, as with "
            "pip install 'lmprog[local]'"
        ) from error
    return made
