"""The messages that the other tool would send: its template, rendered by its own rules, and split at role lines.

Templates come from files that nobody has looked at, so they are rendered in a sandbox, and within bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from lmprog.errors import Handled
from lmprog.imports import roles

_MAX_ITEMS = 20_000
"""Items that the loops of one rendering run over."""
_MAX_FACTOR = 100_000

Message = tuple[str, str]
"""A role and a text."""


class NotRendered(Handled):
    """The error for a template that the other tool could not render either, or not within limits of time and size."""


@dataclass(frozen=True)
class Original:
    """A prompt of another tool: its template, and how that tool renders it.

    `trims` says whether with `trim_blocks`, `first` is the role of text before any role line, and `chat` False means that
    the prompt is sent as a single text to a completion API, without splitting it at role lines.
    """

    text: str
    trims: bool = False
    first: str = "system"
    chat: bool = True

    def messages(self, values: Mapping[str, Any]) -> list[Message]:
        """Return the messages that the other tool would send for these values of the variables.

        Raises NotRendered where the template cannot be rendered.
        """
        text = rendered(self.text, values, trims=self.trims)
        if not self.chat:
            return [("user", text)]
        return roles.messages(text, self.first)


def rendered(text: str, values: Mapping[str, Any], *, trims: bool) -> str:
    """Return the text of a template as the other tool renders it, where missing values are empty; `trims` as in Original.

    Raises NotRendered where it cannot be rendered.
    """
    environment = _Bounded(trim_blocks=trims, keep_trailing_newline=True, cache_size=0)
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
    """Counts the items of loops, and refuses products that would fill the memory."""

    intercepted_binops = frozenset({"*", "**"})
    items = 0

    def counted(self, items: Iterable[Any]) -> Iterator[Any] | list[Any]:
        return self._counted(items) if not isinstance(items, list | tuple) else list(self._counted(items))

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.items += 1
            if self.items > _MAX_ITEMS:
                raise TemplateError("its loops run too long")
            yield item

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = [value for value in (left, right) if isinstance(value, int | float)]
        if any(abs(number) > _MAX_FACTOR for number in numbers) or (operator == "**" and abs(right) > 64):
            raise TemplateError("its numbers are too large")
        return super().call_binop(context, operator, left, right)


class _Counting(NodeTransformer):
    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "counted", [], [], None, None, lineno=node.lineno)
        return node
