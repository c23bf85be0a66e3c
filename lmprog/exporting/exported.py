"""The modules of a program as they are exported: the parts of each prompt, and the fields of its requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmprog.compiler.plan import LM, Field, Module, ModuleCall, Plan, ProgramCall
from lmprog.compiler.prompts.call_turns import CALLS
from lmprog.compiler.prompts.messages import Message, PromptBuilder, instructions_of, tool_words
from lmprog.compiler.steps.parts import walk
from lmprog.compiler.tools.protocol import named
from lmprog.compiler.types.lattice import Object
from lmprog.errors import UsageError
from lmprog.exporting.plain_jinja import Text, fixed_text, plain, template_text
from lmprog.lms.lm import Request
from lmprog.lms.sending import as_sent
from lmprog.runtime.agent import offer

_TRIMMED = ("{% filter trim %}", "{% endfilter %}")
_BEFORE_WORDS = ("{% set __own %}", "{% endset %}{{ __own | trim }}{% if __own | trim %}\n\n{% endif %}")
"""Jinja code before and behind a system template that trims its text, and adds a blank line before the description of tools."""


@dataclass(frozen=True)
class ExportedModule:
    """A module of a program, which `lm` answers: the messages of its request in parts, in their order, and the other fields of
    the request (`fields`).

    `system` and `user` are texts that may depend on the inputs (None: no system message), `demos` are messages in OpenAI's
    form, `earlier` the names of the inputs that hold a chat's earlier messages, and `images` of those that are images.
    """

    name: str
    """The module's id; for one of a sub-program after the ids of the steps that run it."""
    module: Module
    lm: LM
    system: Text | None
    demos: Sequence[Message]
    earlier: Sequence[str]
    """The inputs that are turns of a chat, before the user's turn."""
    user: Text
    images: Sequence[str]
    """The inputs that are images, beside the text of the user's turn."""
    fields: Mapping[str, Any]
    """Model, parameters, schema of the reply and tools, as the LM is sent them."""

    @property
    def inputs(self) -> Mapping[str, Field]:
        """The inputs of the module, by name."""
        return self.module.inputs

    @property
    def texts(self) -> list[Text]:
        """The texts among `system` and `user` that depend on the inputs."""
        return [text for text in (self.system, self.user) if text is not None and text.fixed is None]

    @property
    def leaves_user_out(self) -> bool:
        """True if the user's message is left out where it is blank, after the earlier messages of a chat."""
        return bool(self.earlier) and self.user.may_be_blank

    def reply(self) -> str:
        """Return a sentence on the form in which a reply has the outputs: JSON, sections, or the whole text."""
        names = ", ".join(f"`{name}`" for name in self.module.outputs)
        if self.module.format == "json":
            return f"The reply is one JSON object with {names}."
        if self.module.format == "fields":
            return f"The reply has a section <name>...</name> for each of {names}."
        return f"The whole reply is {names}."

    def left_out(self) -> Iterator[str]:
        """Yield a phrase for each part of the module (its adapter, say, or an agent's further turns) that the exported text
        does not hold."""
        module = self.module
        if module.adapter is not None or self.lm.adapter is not None:
            yield (
                f"the tuned weights of `{self.name}` (an adapter): `lmprog export --merged DIR` writes them, and without "
                "them this is not the tuned program"
            )
        if self.lm.runs_here:
            yield f"the model of `{self.name}`, {self.lm.model}, which runs in lmprog's process: name the server that you use"
        if module.tools:
            yield f"the turns of `{self.name}` after its LM has called a tool: this is its first request"
            if any(CALLS in demo for demo in module.demos):
                yield f"the tool calls in the demos of `{self.name}`"
        if module.decoding == "constrained":
            yield f"constrained decoding of `{self.name}`"
        if self.lm.fallback or self.lm.balance:
            yield f"the other LMs that may answer for `{self.lm.id}`"


def exported_modules(plan: Plan) -> list[ExportedModule]:
    """Return the modules that a program's steps call, those of its sub-programs included, in the order of the spec; each has a
    name of its own, with `_` behind it where an earlier one has the same, in whatever case.

    Raises UsageError for a module whose prompt cannot be written as a text, such as one that shows each call the demos nearest
    to its inputs.
    """
    found: dict[str, ExportedModule] = {}
    for prefix, its, module in _called(plan, ""):
        name = prefix + module.id
        # Some forms write names in capitals, and some disks tell no case apart.
        while name.lower() in map(str.lower, found):
            name += "_"
        found[name] = _exported(name, its, module)
    return list(found.values())


def _called(plan: Plan, prefix: str) -> Iterator[tuple[str, Plan, Module]]:
    steps = list(walk(plan.steps))
    ids = {step.action.module for step in steps if isinstance(step.action, ModuleCall)}
    yield from ((prefix, plan, module) for id, module in plan.modules.items() if id in ids)
    for step in steps:
        if isinstance(step.action, ProgramCall):
            yield from _called(step.action.plan, f"{prefix}{step.id}_")


def _exported(name: str, plan: Plan, module: Module) -> ExportedModule:
    """Return a module of `plan` for export under a name. Raises UsageError for demos that are chosen for each call."""
    if module.nearest is not None:
        raise UsageError(
            f"the module `{name}` chooses its demos for each call (`nearest`), which no text can: write "
            f"--set modules.{module.id}.demos=[...] with a list of them"
        )
    words, lm = tool_words(plan, module), plan.lms[module.lm]
    # Only lmprog knows in which notation each LM is shown calls: the demos are exported without theirs.
    plain_demos = tuple({name: value for name, value in demo.items() if name != CALLS} for demo in module.demos)
    builder = PromptBuilder(replace(module, demos=plain_demos) if module.tools else module, plan.vars, words)
    fixed = {"instructions": instructions_of(module), "vars": plan.vars, "demos": module.demos}
    kinds = {input: field.type for input, field in module.inputs.items()}
    return ExportedModule(
        name,
        module,
        lm,
        _system(module, fixed, words),
        builder.demo_turns,
        builder.earlier,
        template_text(module.layout.user.text, fixed, kinds),
        builder.images,
        _fields(plan, module, lm),
    )


def _system(module: Module, fixed: Mapping[str, Any], words: str) -> Text | None:
    """Return the text of the system message, which ends with `words`, the description of the tools (empty where the LM's API
    takes tools); None where it is empty for every row. `fixed` are values by name that are the same for every row."""
    layout = module.layout.system
    if layout is not None and layout.variables & module.inputs.keys():
        before, after = _BEFORE_WORDS if words else _TRIMMED
        return Text(before + plain(layout.text, fixed) + after + fixed_text(words).template, None)
    said = layout.render(fixed).strip() if layout is not None else ""
    text = "\n\n".join(part for part in (said, words) if part)
    return fixed_text(text) if text else None


def _fields(plan: Plan, module: Module, lm: LM) -> dict[str, Any]:
    """Return the fields of a module's request beside its messages, as `lm` is sent them; the seed is left out, which differs
    from call to call."""
    calls = bool(module.tools) and module.max_turns > 1
    native = calls and lm.tool_protocol == "native"
    request = Request(
        messages=(),
        params=lm.params,
        output_type=None if calls else Object(tuple((name, field.type) for name, field in module.outputs.items())),
        format=module.format,
        decoding="free" if calls else module.decoding,
        tools=tuple(offer(tool, name) for name, tool in named(map(plan.tools.__getitem__, module.tools)).items())
        if native
        else (),
    )
    sent = as_sent(lm, request)
    return {name: value for name, value in sent.items() if name not in ("messages", "seed")}
