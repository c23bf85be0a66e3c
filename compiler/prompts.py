"""The messages of a module: its fixed layout around instructions, demos and the inputs of one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmprog.compiler import formats
from lmprog.compiler.plan import Field, Layout, Module
from lmprog.compiler.templates import Template
from lmprog.compiler.types import BOOL, FLOAT, INT, MESSAGES, STR, Enum, ListOf, Optional, Type

Message = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """The messages of one call.

    `constant` is (m, c): the first m messages and the first c characters of message m are the same for every row.
    """

    messages: tuple[Message, ...]
    constant: tuple[int, int]


class PromptBuilder:
    """Builds the prompts of one module; what does not vary from row to row is rendered once, here.

    Raises RenderError where a template cannot be rendered, as `build` does.
    """

    def __init__(self, module: Module, vars: Mapping[str, Any]) -> None:
        self.module = module
        self._fixed = {"instructions": module.instructions or "", "vars": vars, "demos": module.demos}
        self._varying = frozenset(module.inputs)
        layout = module.layout
        self._system_varies = layout.system is not None and bool(layout.system.variables & self._varying)
        self._turns = [] if layout.demos_inline else [turn for demo in module.demos for turn in self._demo(demo)]
        self._system = "" if layout.system is None or self._system_varies else layout.system.render(self._fixed)
        self._earlier = self._earlier_turns()
        self._user_head = layout.user.render_head(self._fixed, self._varying)

    def build(self, inputs: Mapping[str, Any]) -> Prompt:
        """The messages for one row: system, demos as earlier turns, the row as the last turn."""
        layout, values = self.module.layout, {**self._fixed, **inputs}
        system = layout.system.render(values) if layout.system is not None and self._system_varies else self._system
        messages: list[Message] = [{"role": "system", "content": system.strip()}] if system.strip() else []
        messages += self._turns
        constant = (len(messages), len(self._user_head))
        if self._system_varies and layout.system is not None:
            constant = (0, len(layout.system.render_head(self._fixed, self._varying).strip()))
        earlier = [dict(turn) for name in self._earlier for turn in inputs[name] or ()]
        if earlier:
            messages += earlier
            constant = min(constant, (len(messages) - len(earlier), 0))
        messages.append({"role": "user", "content": layout.user.render(values)})
        return Prompt(tuple(messages), constant)

    def _earlier_turns(self) -> list[str]:
        """Inputs that are turns of a chat stand as turns, unless the layout places them itself."""
        mentioned = self.module.layout.user.variables
        return [
            name
            for name, field in self.module.inputs.items()
            if field.type in (MESSAGES, Optional(MESSAGES)) and name not in mentioned
        ]

    def _demo(self, demo: Mapping[str, Any]) -> list[Message]:
        layout, values = self.module.layout, {**self._fixed, **demo}
        if layout.assistant is not None:
            answer = layout.assistant.render(values)
        else:
            answer = formats.write(self.module.format, self.module.outputs, demo)
        return [{"role": "user", "content": layout.user.render(values)}, {"role": "assistant", "content": answer}]


def standard_layout(
    inputs: Mapping[str, Field], outputs: Mapping[str, Field], format: Literal["text", "fields", "json"]
) -> Layout:
    """The layout of a module that has no `prompt`.

    System: the instructions, what the inputs are, how to reply. User: the one input as it is, or a section for each.
    """
    about = [f"{name}: {field.about.strip()}" for name, field in inputs.items() if field.about]
    said = [part for part in ("\n".join(about), formats.describe(format, outputs)) if part]
    system = "{{ instructions }}" + "".join(f"\n\n{_literal(part)}" for part in said)
    shown = {name: field.type for name, field in inputs.items() if field.type not in (MESSAGES, Optional(MESSAGES))}
    if len(shown) == 1:
        ((name, kind),) = shown.items()
        user = _hole(name, kind)
    else:
        user = "\n".join(f"<{name}>{_hole(name, kind)}</{name}>" for name, kind in shown.items())
    return Layout(
        Template(system, frozenset({"instructions"})),
        Template(user, frozenset(shown)),
        assistant=None,
        demos_inline=False,
    )


def _literal(text: str) -> str:
    """A text as a template that renders to just that text."""
    return "{{ " + repr(text) + " }}" if "{" in text else text


def _hole(name: str, kind: Type) -> str:
    if isinstance(kind, Optional):
        return f"{{% if {name} is not none %}}{_hole(name, kind.inner)}{{% endif %}}"
    if kind in (STR, INT, FLOAT) or isinstance(kind, Enum):
        return f"{{{{ {name} }}}}"
    if isinstance(kind, ListOf) and (kind.item == STR or isinstance(kind.item, Enum)):
        return f"\n{{% for entry in {name} %}}\n- {{{{ entry }}}}\n{{% endfor %}}\n"
    if kind == BOOL:
        return f"{{{{ 'true' if {name} else 'false' }}}}"
    return f"{{{{ {name} | tojson }}}}"
