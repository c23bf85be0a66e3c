"""Jinja templates, sandboxed and strict. What a template may contain is checked in `safety.py` and `types.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, wraps
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lmprog.compiler.errors import Handled
from lmprog.compiler.templates.signatures import FILTER_SIGNATURES, METHOD_SIGNATURES

STRING_METHODS = frozenset(METHOD_SIGNATURES)
"""The names of methods of texts: with `range`, the only values that a template may call."""

FILTERS = frozenset(FILTER_SIGNATURES)
"""The names of the filters that a template may use: pure, deterministic, and without a way to Python."""

_LOOP_FIELDS = frozenset({
    "index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0", "previtem", "nextitem",
})  # fmt: skip


class RenderError(Handled):
    """The error of a template that cannot be rendered for the given values."""


class Environment(ImmutableSandboxedEnvironment):
    """The sandbox of templates: values have their fields, strings the listed methods, loops their counters; anything
    else is undefined, and a call of it an error. Only numbers can be multiplied, and powers are limited
    (TemplateError).
    """

    intercepted_binops = frozenset({"*", "**"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self._reach(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, str) and not isinstance(obj, list | tuple):
            return self._reach(obj, argument)
        try:
            return obj[argument]
        except (LookupError, TypeError):
            if isinstance(obj, str) and isinstance(argument, int):
                return ""  # As `text[5:6]` is: a text has no character there.
            return self.undefined(obj=obj, name=argument)

    def _reach(self, obj: Any, name: str) -> Any:
        if isinstance(obj, Mapping):
            try:
                return obj[name]
            except KeyError:
                return self.undefined(obj={}, name=name)
        allowed = (
            (isinstance(obj, str) and name in STRING_METHODS)
            or (isinstance(obj, LoopContext) and name in _LOOP_FIELDS)
            or name in getattr(type(obj), "model_fields", ())
        )
        return getattr(obj, name) if allowed else self.undefined(obj=obj, name=name)

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        of, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(of, str) and name in ("replace", "join"):
            _require_short(name, (of, *args) if name == "replace" else (*args, of))
        return super().call(__context, __obj, *args, **kwargs)

    def is_safe_callable(self, obj: Any) -> bool:
        if obj is _range:
            return True
        return isinstance(getattr(obj, "__self__", None), str) and obj.__name__ in STRING_METHODS

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise TemplateError("only numbers can be multiplied")
        if operator == "**" and (abs(left) > 1e6 or abs(right) > 64):
            raise TemplateError("the power is too large")
        return super().call_binop(context, operator, left, right)


def _range(*bounds: int) -> range:
    """Return a `range` of at most 100,000 numbers; raise TemplateError for a longer one."""
    numbers = range(*bounds)
    if len(numbers) > 100_000:
        raise TemplateError("the range is longer than 100,000")
    return numbers


_COUNTS = {"batch": 100_000, "slice": 100_000, "indent": 1_000, "wordwrap": 100_000, "tojson": 100, "round": 1_000}
"""The greatest number, positive or negative, that an argument of a filter may be, where it says how much is made."""


def _counted(name: str, call: Callable[..., Any], most: int) -> Callable[..., Any]:
    """Return the filter `name` so that it raises TemplateError for a number beyond `most` as an argument."""

    @wraps(call)  # with the marks of jinja, which say what the filter is passed
    def counted(*arguments: Any, **named: Any) -> Any:
        for argument in (*arguments[1:], *named.values()):
            if isinstance(argument, int | float) and abs(argument) > most:
                raise TemplateError(f"`{name}` takes numbers up to {most:,}, not {argument:g}")
        return call(*arguments, **named)

    return counted


MAX_CHARACTERS = 10_000_000
"""Characters of the longest text that `replace` and `join` make."""


def _sized(name: str, call: Callable[..., Any], before: int) -> Callable[..., Any]:
    """Return the filter `replace` or `join` so that it raises TemplateError for a text of more than MAX_CHARACTERS; `before`
    arguments stand before the value."""

    @wraps(call)
    def sized(*arguments: Any, **named: Any) -> Any:
        value, *more = arguments[before:]
        value = value if isinstance(value, str) or name == "replace" else list(value)
        more += [named[key] for key in ("old", "new", "d") if key in named]
        _require_short(name, (value, *more))
        return call(*arguments[:before], value, *arguments[before + 1 :], **named)

    return sized


def _require_short(name: str, parts: Sequence[Any]) -> None:
    """Raise TemplateError where the text that `replace` makes of (text, old, new), or `join` of (texts, separator), would have
    more than MAX_CHARACTERS."""
    if name == "replace" and len(parts) > 2:
        text, old, new = map(str, parts[:3])
        size = len(text) + text.count(old) * (len(new) - len(old))
    elif name == "join" and len(parts) > 1 and isinstance(parts[0], list | tuple):
        size = sum(len(part) for part in parts[0] if isinstance(part, str)) + len(str(parts[1])) * len(parts[0])
    else:
        return
    if size > MAX_CHARACTERS:
        raise TemplateError(f"the text that `{name}` makes would be longer than {MAX_CHARACTERS:,} characters")


def _environment() -> Environment:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, cache_size=0)
    environment.filters = {name: call for name, call in environment.filters.items() if name in FILTERS}
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    environment.filters["tojson"] = _tojson
    environment.filters["replace"] = _sized("replace", environment.filters["replace"], 1)  # behind jinja's context
    environment.filters["join"] = _sized("join", environment.filters["join"], 1)
    environment.filters |= {name: _counted(name, environment.filters[name], most) for name, most in _COUNTS.items()}
    environment.globals = {"range": _range}
    return environment


def _tojson(value: Any, indent: int | None = None) -> str:
    """Return the value as JSON for a model to read, without HTML escapes."""
    if isinstance(value, StrictUndefined):
        str(value)
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_dumped)


def _dumped(value: Any) -> Any:
    if hasattr(type(value), "model_fields"):
        return value.model_dump(mode="json", by_alias=False)
    raise TypeError(f"{type(value).__name__} has no JSON")


ENVIRONMENT = _environment()


@lru_cache(maxsize=4096)
def parse(text: str) -> nodes.Template:
    """Return the syntax tree of a template, which is shared and must not be changed; raise jinja2.TemplateSyntaxError for a
    text that is no template."""
    try:
        return ENVIRONMENT.parse(text)
    except ValueError as error:  # A number of more digits than Python reads.
        raise TemplateSyntaxError(str(error), 1) from None


@dataclass(frozen=True)
class Template:
    """A template of a prompt: its text, the names that it reads (`variables`, as its maker gives them), and its place
    in the spec as text, for messages. It is compiled when it is first rendered: a text that is no template raises only
    then."""

    text: str
    variables: frozenset[str] = frozenset()
    place: str = ""
    _heads: dict[frozenset[str], Callable[..., str]] = field(
        default_factory=dict, compare=False, repr=False, init=False
    )

    @cached_property
    def _render(self) -> Callable[..., str]:
        return _compiled(parse(self.text))

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text for the values of the template's names; raise RenderError where it cannot be rendered, as where it
        needs a name without a value."""
        try:
            return self._render(values)
        except Exception as error:
            raise self._failed(error) from error

    def render_head(self, values: Mapping[str, Any], varying: frozenset[str]) -> str:
        """Return the beginning of the text, up to the first part (a hole, or a whole `if` or `for`) that mentions a name in
        `varying`; `values` may lack these. Raises RenderError where it cannot be rendered.

        Every `render` with the same other values begins with it.
        """

        try:
            if varying not in self._heads:
                body = nodes.Template(_before(parse(self.text).body, varying), lineno=1)
                self._heads[varying] = _compiled(body)
            return self._heads[varying](values)
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> RenderError:
        place = f"{self.place}: " if self.place else ""
        return RenderError(f"{place}cannot render the prompt: {error}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Template, (self.text, self.variables, self.place)


def _compiled(tree: nodes.Template) -> Callable[..., str]:
    tree.set_environment(ENVIRONMENT)
    code = ENVIRONMENT.compile(tree)
    template = ENVIRONMENT.template_class.from_code(ENVIRONMENT, code, {**ENVIRONMENT.globals})
    write, context = template.root_render_func, template.new_context
    # Not `template.render`, which copies the values once more and rewrites the traceback of an error that we replace.
    return lambda values: "".join(write(context(values)))  # type: ignore[arg-type]


def mentions(node: nodes.Node, names: frozenset[str]) -> bool:
    """Return whether a part of a template reads, or sets, one of `names`."""
    if isinstance(node, nodes.Name) and node.name in names:
        return True
    return any(found.name in names for found in node.find_all(nodes.Name))


def _before(body: Iterable[nodes.Node], varying: frozenset[str]) -> list[nodes.Node]:
    """Return the nodes of a template before the first one that mentions a name in `varying`."""
    kept: list[nodes.Node] = []
    for node in body:
        if not mentions(node, varying):
            kept.append(node)
            continue
        if isinstance(node, nodes.Output):
            parts: list[nodes.Expr] = []
            for part in node.nodes:
                if mentions(part, varying):
                    break
                parts.append(part)
            if parts:
                kept.append(nodes.Output(parts, lineno=node.lineno))
        break
    return kept


def dotted_name(node: nodes.Node) -> str:
    """Return the dotted name that a node reads (`a["b"]` is `a.b`); empty for any other node."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        inner = dotted_name(node.node)
        return f"{inner}.{node.attr}" if inner else ""
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        inner = dotted_name(node.node)
        return f"{inner}.{node.arg.value}" if inner else ""
    return ""
