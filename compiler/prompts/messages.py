"""The messages of a module's calls: layout, instructions, demos and the inputs of one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmprog.compiler.plan import Field, Layout, Module, Plan
from lmprog.compiler.prompts.call_turns import CallTurns
from lmprog.compiler.prompts.nearest import Nearest
from lmprog.compiler.replies import formats
from lmprog.compiler.templates.compiled import Template
from lmprog.compiler.tools import protocol as tool_protocol
from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    IMAGE,
    INT,
    MESSAGES,
    STR,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
    without_none,
)

Message = dict[str, Any]

TURNS = (MESSAGES, Optional(MESSAGES))
"""The types of inputs that are earlier turns of a chat, and no text of the prompt."""
_IMAGES = (IMAGE, ListOf(IMAGE), ListOf(Optional(IMAGE)))
IMAGES = (*_IMAGES, *map(Optional, _IMAGES))
"""The types of inputs that are images, which stand beside the text of the user's turn."""


@dataclass(frozen=True)
class Prompt:
    """The rendered messages of one call, in the format of OpenAI's API.

    `constant` is (m, c): the first m messages, and the first c characters of the next, are the same for every row.
    """

    messages: tuple[Message, ...]
    constant: tuple[int, int]


class PromptBuilder:
    """A renderer of the prompts of one module; the part that is the same for every row is rendered once, when it is made.

    `vars` are the program's constants, `tool_words` is a text about an agent's tools for the end of the system message
    (empty: none), and `calls` writes the tool calls of its demos (None: as text). Raises RenderError where a template
    cannot be rendered, as `build` does.
    """

    def __init__(
        self, module: Module, vars: Mapping[str, Any], tool_words: str = "", calls: CallTurns | None = None
    ) -> None:
        self.module = module
        self._tool_words = tool_words
        self.images = [name for name, field in module.inputs.items() if field.type in IMAGES]
        """The names of the inputs that are images, beside the text of the user's turn."""
        self.parts = any(field.type in IMAGES + TURNS for field in module.inputs.values())
        """True if the content of a message may be a list of parts, with images among them."""
        self._fixed = {"instructions": instructions_of(module), "vars": vars, "demos": module.demos}
        self._nearest = Nearest(module.demos, list(module.inputs), module.nearest) if module.nearest else None
        self._varying = frozenset({*module.inputs, *(["demos"] if self._nearest is not None else [])})
        layout = module.layout
        self._system_varies = layout.system is not None and bool(layout.system.variables & self._varying)
        self._system = "" if layout.system is None or self._system_varies else layout.system.render(self._fixed)
        self.earlier = self._earlier_turns()
        """The names of the inputs that are turns of a chat before the user's."""
        self._calls = calls or CallTurns()
        numbered = enumerate(() if layout.demos_inline else module.demos)
        self._turns = [self._demo(demo, number) for number, demo in numbered]
        self._user_head = layout.user.render_head(self._fixed, self._varying)

    @property
    def demo_turns(self) -> list[Message]:
        """The messages of all demos, also where a call is shown the nearest alone; none where a template shows the
        demos itself."""
        return [turn for turns in self._turns for turn in turns]

    def build(self, inputs: Mapping[str, Any]) -> Prompt:
        """Return the messages for `inputs`, all inputs of one call by name: the system message, if it is not empty,
        demos as earlier turns, the turns of a chat among the inputs, and the user's turn. The last is left out where it
        is empty behind turns of a chat. Raises RenderError where a template cannot be rendered.
        """
        layout, values = self.module.layout, {**self._fixed, **self._completed(inputs)}
        shown = range(len(self.module.demos)) if self._nearest is None else self._nearest.places(inputs)
        values["demos"] = tuple(self.module.demos[place] for place in shown)
        system = layout.system.render(values) if layout.system is not None and self._system_varies else self._system
        said = "\n\n".join(part for part in (system.strip(), self._tool_words) if part)
        messages: list[Message] = [{"role": "system", "content": said}] if said else []
        head = len(messages)
        messages += [turn for place in shown if self._turns for turn in self._turns[place]]
        constant = (len(messages), 0 if self.images else len(self._user_head))
        if self._nearest is not None and self._turns:
            constant = (head, 0)
        if self._system_varies and layout.system is not None:
            constant = (0, len(layout.system.render_head(self._fixed, self._varying).strip()))
        earlier = [dict(turn) for name in self.earlier for turn in inputs[name] or ()]
        if earlier:
            messages += earlier
            constant = min(constant, (len(messages) - len(earlier), 0))
        messages += self._last(values, earlier)
        return Prompt(tuple(messages), constant)

    def _completed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return inputs as templates read them: an optional field that an object lacks is null."""
        kinds = self.module.inputs
        return {name: _readable(value, kinds[name].type) if name in kinds else value for name, value in values.items()}

    def _earlier_turns(self) -> list[str]:
        """Return the names of the inputs that are turns of a chat and become turns of the prompt: those that the user
        template does not show."""
        mentioned = self.module.layout.user.variables
        return [name for name, field in self.module.inputs.items() if field.type in TURNS and name not in mentioned]

    def _last(self, values: Mapping[str, Any], earlier: list[Message]) -> list[Message]:
        """Return the user's turn in a list, which is empty where the turn would be empty behind the turns of a chat."""
        turn = self._user(values)
        blank = isinstance(turn["content"], str) and not turn["content"].strip()
        return [] if blank and earlier else [turn]

    def _user(self, values: Mapping[str, Any]) -> Message:
        """Return the user's turn: its text or, if it has images, a list of parts in OpenAI's API format."""
        text = self.module.layout.user.render(values)
        given = [values.get(name) for name in self.images]
        images = [one for value in given for one in (value if isinstance(value, list) else [value]) if one is not None]
        if not images:
            return {"role": "user", "content": text}
        parts: list[Message] = [{"type": "text", "text": text}] if text.strip() else []
        parts += [{"type": "image_url", "image_url": {"url": image}} for image in images]
        return {"role": "user", "content": parts}

    def _demo(self, demo: Mapping[str, Any], number: int) -> list[Message]:
        """Return the messages of a demo: its inputs, tool calls and reply; `number` is its place among the demos."""
        earlier = [dict(turn) for name in self.earlier for turn in demo.get(name) or ()]
        last = self._last({**self._fixed, **self._completed(demo)}, earlier)
        called = self._calls.messages(demo, number)
        return [*earlier, *last, *called, {"role": "assistant", "content": self.reply(demo)}]

    def reply(self, values: Mapping[str, Any]) -> str:
        """Return the reply of a demo as text, by the assistant template or else in the module's format; `values` has the
        demo's inputs and outputs by name. Raises RenderError where the template cannot be rendered."""
        layout = self.module.layout
        if layout.assistant is not None:
            return layout.assistant.render({**self._fixed, **values})
        return formats.write(self.module.format, self.module.outputs, values)


def instructions_of(module: Module) -> str:
    """Return a module's instructions as prompts show them: without the line breaks at their end, which YAML's `|` leaves."""
    return (module.instructions or "").rstrip()


def builder_of(plan: Plan, module: Module) -> PromptBuilder:
    """Return the builder of a module's prompts, in which tools are described and called as its LM in `plan` wants. Raises
    RenderError where the part that is the same for every row cannot be rendered.
    """
    lm = plan.lms.get(module.lm)
    tools = (plan.tools[tool] for tool in module.tools if tool in plan.tools)
    calls = CallTurns(tools, lm is not None and lm.tool_protocol == "native")
    return PromptBuilder(module, plan.vars, tool_words(plan, module), calls)


def tool_words(plan: Plan, module: Module) -> str:
    """Return the text that describes a module's tools in its prompt; empty where it has none, or where its LM's API takes
    tools in fields of its own.
    """
    lm = plan.lms.get(module.lm)
    if not module.tools or (lm is not None and lm.tool_protocol == "native"):
        return ""
    return tool_protocol.describe(plan.tools[tool] for tool in module.tools if tool in plan.tools)


class _Record(dict[str, Any]):
    """A dictionary for an object of the language: the optional fields that it lacks read as None, and are not listed or
    shown. `optional` has the names of all optional fields."""

    def __init__(self, value: Mapping[str, Any], optional: frozenset[str]) -> None:
        super().__init__(value)
        self._optional = optional

    def __missing__(self, name: str) -> None:
        if name not in self._optional:
            raise KeyError(name)


def _readable(value: Any, kind: Type) -> Any:
    """Return a value of type `kind` with each object in it, at every depth, as a dictionary in which optional fields that
    it lacks read as None; another value as it is."""
    kind = without_none(kind)
    if isinstance(kind, Object) and isinstance(value, Mapping):
        optional = frozenset(name for name, inner in kind.fields if isinstance(inner, Optional))
        inside = {name: _readable(value[name], inner) for name, inner in kind.fields if name in value}
        return _Record({**value, **inside}, optional)
    if (
        isinstance(kind, ListOf)
        and isinstance(without_none(kind.item), Object | ListOf)
        and isinstance(value, list | tuple)
    ):
        return [_readable(item, kind.item) for item in value]
    return value


def content_text(content: Any) -> str:
    """Return the content of a message (a text, a list of parts, or None) as readable text, a part a line, with an image
    shown as the first 200 characters of its address; empty for None."""
    if isinstance(content, str):
        return content
    shown = [part.get("text") or f"[image {part.get('image_url', {}).get('url', '')[:200]}]" for part in content or ()]
    return "\n".join(shown)


def message_text(message: Mapping[str, Any]) -> str:
    """Return a message as readable text: its content, then a line `name(arguments)` for each tool call that it holds."""
    made = [call["function"] for call in message.get("tool_calls") or ()]
    shown = [f"{call['name']}({call['arguments']})" for call in made]
    return "\n".join(part for part in (content_text(message.get("content")), *shown) if part or not shown)


def standard_layout(
    inputs: Mapping[str, Field], outputs: Mapping[str, Field], format: Literal["text", "fields", "json"]
) -> Layout:
    """Return the layout of a module that has no `prompt`.

    System: the instructions, the descriptions of the inputs, the reply format. User: a single input as it is, or a
    section for each input, images and turns of a chat left out. `format` is that of its replies, which hold the
    `outputs`; demos are earlier turns.
    """
    about = [f"{name}: {field.about.strip()}" for name, field in inputs.items() if field.about]
    said = [part for part in ("\n".join(about), formats.describe(format, outputs)) if part]
    system = "{{ instructions }}" + "".join(f"\n\n{_literal(part)}" for part in said)
    shown = {name: field.type for name, field in inputs.items() if field.type not in TURNS + IMAGES}
    if len(shown) == 1:
        ((name, kind),) = shown.items()
        user = hole(name, kind)
    else:
        user = "\n".join(f"<{name}>{hole(name, kind)}</{name}>" for name, kind in shown.items())
    return Layout(
        Template(system, frozenset({"instructions"})),
        Template(user, frozenset(shown)),
        assistant=None,
        demos_inline=False,
    )


def _literal(text: str) -> str:
    """Return a template that renders to exactly the given text."""
    return "{{ " + repr(text) + " }}" if "{" in text else text


def hole(name: str, kind: Type) -> str:
    """Return the Jinja code that prints the variable `name`, whose values are of type `kind`: texts and numbers as they
    are, lists of texts with dashes, other values as JSON, and nothing for null."""
    if isinstance(kind, Optional):
        return f"{{% if {name} is not none %}}{hole(name, kind.inner)}{{% endif %}}"
    if kind in (STR, INT, FLOAT) or isinstance(kind, Enum):
        return f"{{{{ {name} }}}}"
    if isinstance(kind, ListOf) and (kind.item == STR or isinstance(kind.item, Enum)):
        return f"\n{{% for entry in {name} %}}\n- {{{{ entry }}}}\n{{% endfor %}}\n"
    if kind == BOOL:
        return f"{{{{ 'true' if {name} else 'false' }}}}"
    return f"{{{{ {name} | tojson }}}}"
