"""The messages that another tool would send for one of its prompts: the template, rendered by that tool's rules, and split
at role lines.

Templates come from files that nobody has looked at, so they are rendered in a sandbox, and within bounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from lmprog.errors import Handled
from lmprog.imports import roles

_MAX_ITEMS = 20_000
"""The most items that the loops of one rendering run over, all together."""
_MAX_FACTOR = 100_000
"""The largest number that a template may multiply by or give a filter, and the most items or characters of a product."""

_WIDE = re.compile(r"%[^a-zA-Z%]*(?:\d{5}|\*)")
"""The place of a value in a text that is formatted with a width of five digits, or one that is a value itself."""

Message = tuple[str, str]
"""A role and a text."""


class NotRendered(Handled):
    """The error for a template that cannot be rendered for the values at hand, or not within the bounds of size."""


@dataclass(frozen=True)
class Original:
    """A prompt of another tool: its Jinja template (`text`), and how that tool renders it.

    With `trims` (default: False) it removes the line break after a block (Jinja's `trim_blocks`), `first` is the role
    of text before any role line (`system`), and `chat` False means that the prompt is sent as a single text to a
    completion API, without splitting it at role lines.
    """

    text: str
    trims: bool = False
    first: str = "system"
    chat: bool = True

    def messages(self, values: Mapping[str, Any]) -> list[Message]:
        """Return the messages, pairs of role and text, that the other tool would send for these values of the
        variables, without empty ones; without `chat` a single one of the user, which may be empty.

        Raises NotRendered where the template cannot be rendered.
        """
        text = rendered(self.text, values, trims=self.trims)
        if not self.chat:
            return [("user", text)]
        return roles.messages(text, self.first)


def rendered(text: str, values: Mapping[str, Any], *, trims: bool) -> str:
    """Return the text that a Jinja template gives for values by name, with nothing for a variable that has none. With `trims`
    the line break after a block is removed.

    Raises NotRendered, with the cause, where the template is wrong or goes beyond the bounds of this file.
    """
    environment = _Bounded(trim_blocks=trims, keep_trailing_newline=True, cache_size=0)
    environment.filters = {name: _with_small_numbers(call) for name, call in environment.filters.items()}
    environment.filters["counted"] = environment.counted
    try:
        tree = _Counting().visit(environment.parse(text))
        tree.set_environment(environment)
        code = environment.compile(tree)
        template = environment.template_class.from_code(environment, code, {**environment.globals})
        return "".join(template.root_render_func(template.new_context(dict(values))))  # type: ignore[arg-type]
    except (Exception, RecursionError) as error:
        raise NotRendered(" ".join(str(error).split())[:200] or type(error).__name__) from None


class _Bounded(ImmutableSandboxedEnvironment):
    """A sandbox for one rendering: it counts the items of loops, and raises TemplateError for too many of them and for
    numbers that would make a text or list too large.
    """

    intercepted_binops = frozenset({"*", "**", "%"})
    items = 0

    def counted(self, items: Iterable[Any]) -> Iterator[Any] | list[Any]:
        """Return the items of a loop, each counted: a new list, counted at once, for a list or tuple, else an iterator
        that counts each as the loop takes it. Raises TemplateError for one more than 20,000 in all loops of the
        rendering.
        """
        return self._counted(items) if not isinstance(items, list | tuple) else list(self._counted(items))

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the items; raise TemplateError for one more than _MAX_ITEMS (20,000) in all loops of the rendering."""
        for item in items:
            self.items += 1
            if self.items > _MAX_ITEMS:
                raise TemplateError("its loops run too long")
            yield item

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Return the value of an intercepted operation (`*`, `**` or `%`); raise TemplateError where its numbers or its
        result are too large.
        """
        numbers = [value for value in (left, right) if isinstance(value, int | float)]
        sizes = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)]
        if operator == "*" and any(size * abs(number) > _MAX_FACTOR for size in sizes for number in numbers):
            raise TemplateError("its product is too large")
        if operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise TemplateError("its numbers are too large")
        large = operator != "%" and any(abs(number) > _MAX_FACTOR for number in numbers)
        if large or (operator == "**" and abs(right) > 64):
            raise TemplateError("its numbers are too large")
        return super().call_binop(context, operator, left, right)


def _with_small_numbers(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that raises TemplateError for a number above _MAX_FACTOR among its arguments, such as a width; the
    value that is filtered may be any number.
    """
    own = 2 if hasattr(call, "jinja_pass_arg") else 1

    @wraps(call)
    def bounded(*given: Any, **named: Any) -> Any:
        numbers = [value for value in (*given[own:], *named.values()) if isinstance(value, int | float)]
        if any(abs(number) > _MAX_FACTOR for number in numbers):
            raise TemplateError("its numbers are too large")
        return call(*given, **named)

    return bounded


class _Counting(NodeTransformer):
    """A change of a template's tree: the filter `counted` is put around what each loop runs over."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Return the loop `node`, changed: it and the loops inside of it run over counted items."""
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "counted", [], [], None, None, lineno=node.lineno)
        return node
