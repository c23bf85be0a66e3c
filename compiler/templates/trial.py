"""A trial of a template with sample values of its inputs' types: an error then would occur in some run.

The trial is bounded: a template that loops long or makes long texts is given up, and nothing is said of it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import GeneratorType, TracebackType
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from lmprog.compiler.errors import Handled
from lmprog.compiler.findings.finding import shown_value
from lmprog.compiler.templates.compiled import ENVIRONMENT, Environment
from lmprog.compiler.templates.safety import line_start
from lmprog.compiler.types.lattice import JSON, MESSAGES, ListOf, Object, Optional, Type
from lmprog.compiler.types.samples import combinations, long_sample, samples

_TURNS = 20_000
"""Steps of loops, filters and calls after which a trial is given up."""
_WEIGHT = 4_000
"""The most characters and items of a value in a trial."""
_TOTAL = frozenset({"tojson", "upper", "lower", "title", "capitalize", "trim", "string", "escape", "e", "default", "d"})
"""Filters that make something of every value."""
_TOTAL_TESTS = frozenset({"defined", "undefined", "none", "string", "number", "mapping", "boolean", "true", "false"})
_SURE = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.If, nodes.Not,
    nodes.And, nodes.Or, nodes.CondExpr, nodes.Assign, nodes.Concat, nodes.With,
)  # fmt: skip
"""Parts that cannot fail where the types are right."""


class _GivenUp(Handled):
    """The error of a trial that takes too long or makes too much, and is given up."""


@dataclass(frozen=True, eq=False)
class Failure:
    """The failure of a template for some sample values: the reason, the place in its text (`offset`), and the
    values."""

    reason: str
    offset: int
    """The first mark (`{{` or `{%`) in the line that fails, or the beginning of the line, as an offset in the text."""
    values: Mapping[str, Any]
    """The values by name that make it fail, where others do not; empty where it fails for all that were tried, also for
    long texts and lists."""

    @property
    def always(self) -> bool:
        """True if the template fails for all sample values."""
        return not self.values

    @property
    def message(self) -> str:
        """The message of the failure, with the values and the reason, without the name of the template."""
        where = ", ".join(f"{name} is {shown_value(value)}" for name, value in self.values.items())
        return f"this cannot be rendered{f' where {where}' if where else ''}: {self.reason}"


def trial(
    text: str,
    tree: nodes.Template,
    names: Mapping[str, Type],
    fixed: Mapping[str, Any],
) -> Failure | None:
    """Render a template with samples of the types of its inputs (`names`); return its first failure. None where it
    renders all, cannot fail, takes so long or makes so much that it is given up, or an input has no samples.

    `text` is the template, `tree` its syntax tree; `fixed` are values, by name, that are the same in every run. Raises
    MemoryError where the machine has no memory left.
    """
    read = {node.name for node in tree.find_all(nodes.Name)}
    # A field of a json value may be absent, and so may what is known of nothing.
    loose = any(_is_loose(kind) for name, kind in names.items() if name in read)
    if not any(_may_fail(node, loose) for node in tree.find_all(nodes.Node)):
        return None
    choices = {name: samples(kind) for name, kind in names.items() if name in read and name not in fixed}
    if not all(choices.values()):
        return None
    run = _Trial(text)
    try:
        return _first_failure(run, names, choices, fixed)
    except _GivenUp:
        return None


def _first_failure(
    run: _Trial, names: Mapping[str, Type], choices: Mapping[str, list[Any]], fixed: Mapping[str, Any]
) -> Failure | None:
    first: tuple[str, int] | None = None
    ordinary: dict[str, Any] | None = None
    failing: dict[str, Any] = {}
    for chosen in combinations(choices):
        failed = run.failure({**fixed, **chosen})
        if failed is None:
            ordinary = ordinary if ordinary is not None else chosen
        elif first is None:
            first, failing = failed, chosen
        if first is not None and ordinary is not None:
            break
    if first is None:
        return None
    if ordinary is None:
        return Failure(*first, {} if _fails_when_long(run, names, choices, fixed) else failing)
    return _fewest(run, first, failing, ordinary, fixed)


def _fails_when_long(
    run: _Trial, names: Mapping[str, Type], choices: Mapping[str, list[Any]], fixed: Mapping[str, Any]
) -> bool:
    """Return whether the template fails with long texts and lists too; False where that trial is given up."""
    try:
        return not choices or run.failure({**fixed, **{name: long_sample(names[name]) for name in choices}}) is not None
    except _GivenUp:
        return False


def _fewest(
    run: _Trial, failed: tuple[str, int], failing: dict[str, Any], ordinary: dict[str, Any], fixed: Mapping[str, Any]
) -> Failure:
    """Return the failure with as few values as make the template fail beside the `ordinary` values of the other inputs."""
    needed = {name: value for name, value in failing.items() if value != ordinary[name]}
    for name in list(needed):
        fewer = {key: value for key, value in needed.items() if key != name}
        again = run.failure({**fixed, **ordinary, **fewer})
        if fewer and again is not None:
            needed, failed = fewer, again
    return Failure(*failed, needed)


def _is_loose(kind: Type) -> bool:
    """Return whether values of a type, or parts of them, are json or messages, whose fields are not known."""
    if isinstance(kind, Object):
        return any(_is_loose(inner) for _, inner in kind.fields)
    if isinstance(kind, ListOf | Optional):
        return _is_loose(kind.item if isinstance(kind, ListOf) else kind.inner)
    return kind in (JSON, MESSAGES)


def _may_fail(node: nodes.Node, loose: bool) -> bool:
    if isinstance(node, nodes.Filter):
        return node.name not in _TOTAL or (bool(node.args or node.kwargs) and node.name not in ("default", "d"))
    if isinstance(node, nodes.For):
        return isinstance(node.target, nodes.Tuple) or node.test is not None or not isinstance(node.iter, nodes.Name)
    if isinstance(node, nodes.Compare):
        return any(operand.op not in ("eq", "ne") for operand in node.ops)
    if isinstance(node, nodes.Test):
        return node.name not in _TOTAL_TESTS or bool(node.args)
    if isinstance(node, nodes.Getattr):
        return loose or node.attr in ("previtem", "nextitem")
    return not isinstance(node, (*_SURE, nodes.Operand))


class _Trial:
    """A template compiled for trials; it compiles when it is first rendered."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.template: Any = None

    def failure(self, values: Mapping[str, Any]) -> tuple[str, int] | None:
        """Return why the template cannot be rendered with the values, and the offset of the first mark in the line that
        fails; None where it can be.

        Raises _GivenUp where rendering takes too long or makes too much, and MemoryError: with values of this size the
        machine lacks memory, and the template has no fault.
        """
        _trials().turns = 0
        try:
            if self.template is None:
                tree = _Bounded().visit(_trials().parse(self.text))
                tree.set_environment(_trials())
                code = _trials().compile(tree)
                self.template = _trials().template_class.from_code(_trials(), code, {**_trials().globals})
            for _ in self.template.root_render_func(self.template.new_context(dict(values))):
                pass
        except (_GivenUp, MemoryError):
            raise
        except (Exception, RecursionError) as error:
            line = getattr(error, "lineno", None) or self._line(error.__traceback__)
            return _reason(error), _brace(self.text, line)
        return None

    def _line(self, traceback: TracebackType | None) -> int:
        line = 1
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == "<template>" and self.template is not None:
                line = self.template.get_corresponding_lineno(traceback.tb_lineno)
            traceback = traceback.tb_next
        return line


def _brace(text: str, line: int) -> int:
    """Return the offset of the first `{{` or `{%` in a line (from 1), or of the line where it has none."""
    start = line_start(text, line)
    found = re.compile(r"\{[{%]").search(text, start, start + len(text[start:].partition("\n")[0]))
    return found.start() if found else start


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


class _Bounded(NodeTransformer):
    """The rewriting of a template's tree by which its loops and the values that it sets are counted in a trial."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through("bounded_items", node.iter)
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        self.generic_visit(node)
        node.node = _through("bounded", node.node)
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        self.generic_visit(node)
        node.filter = _through("bounded", node.filter)  # type: ignore[assignment]
        return node

    def visit_With(self, node: nodes.With) -> nodes.Node:
        self.generic_visit(node)
        node.values = [_through("bounded", value) for value in node.values]
        return node


def _through(name: str, value: Any) -> Any:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno if value is not None else 1)


class _Trials(Environment):
    """The environment of templates with every step counted and every value measured."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    turns = 0

    def count(self, *values: Any) -> None:
        """Count one step, and measure its values. Raises _GivenUp at more than 20,000 steps since `turns` was set
        to 0, and for a value that weighs more than 4,000: its characters and items, nested ones too, where a whole
        number weighs its magnitude (-5,000 and [2500, 2500] are too heavy)."""
        self.turns += 1
        if self.turns > _TURNS or any(_weight(value, _WEIGHT) > _WEIGHT for value in values):
            raise _GivenUp

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        self.count(getattr(__obj, "__self__", None), *args)
        result = super().call(__context, __obj, *args, **kwargs)
        self.count(result)
        return result

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.count(left, right)
        if operator in Environment.intercepted_binops:
            result = super().call_binop(context, operator, left, right)
        else:
            result = self.binop_table[operator](left, right)
        self.count(result)
        return result


def _weight(value: Any, most: int) -> int:
    """Return the number of characters and items in a value, of a whole number its magnitude; counting stops just above
    `most`."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) if abs(value) <= most else most + 1
    total = 1
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            total += _weight(item, most - total)
            if total > most:
                break
    return total


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _trials().count(item)
        yield item


def _bounded(value: Any) -> Any:
    _trials().count(value)
    return value


def _bounded_items(value: Any) -> Any:
    """Return an iterator that counts the items of a lazy iterable; count a list at once, to keep its length."""
    if isinstance(value, range | GeneratorType | map | filter):
        return _counted(value)
    _trials().count(value)
    return value


def _counting(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that counts its arguments and results, with the function attributes that jinja reads."""

    @functools.wraps(call)
    def counting(*args: Any, **kwargs: Any) -> Any:
        _trials().count(*args, *kwargs.values())
        result = call(*args, **kwargs)
        if isinstance(result, GeneratorType):
            return _counted(result)
        _trials().count(result)
        return result

    return counting


@lru_cache(maxsize=1)
def _trials() -> _Trials:
    environment = _Trials(
        undefined=ENVIRONMENT.undefined, trim_blocks=True, lstrip_blocks=True, cache_size=0, optimized=False
    )
    environment.filters = {name: _counting(call) for name, call in ENVIRONMENT.filters.items()}
    environment.filters |= {"bounded": _bounded, "bounded_items": _bounded_items}
    environment.policies.update(ENVIRONMENT.policies)
    environment.globals = dict(ENVIRONMENT.globals)
    return environment
