"""Objects that are costly to make and that the runs of a program share: prepared modules, opened tools, inner LMs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.plan import LM as Declared
from lmprog.compiler.plan import AdapterReference, Module, Plan, Tool
from lmprog.compiler.prompts.messages import PromptBuilder, builder_of
from lmprog.compiler.same_lm import twin
from lmprog.compiler.tools.kinds import kind_of
from lmprog.compiler.types.lattice import Object
from lmprog.errors import UsageError
from lmprog.lms.digest import weights_of
from lmprog.lms.lm import LM
from lmprog.spending.budget import Budget
from lmprog.tools.connections import Connections
from lmprog.tools.making import fake_tool, make_tool
from lmprog.traces.exports import exporters
from lmprog.traces.replay import Recording
from lmprog.traces.run_trace import Exporter


@dataclass(frozen=True)
class ReadyModule:
    """A module prepared for its calls: the builder of its prompts, its output type, its adapter (None: it has none), and
    the name of its weights (the model, with the adapter's digest), by which records tell them apart.
    """

    builder: PromptBuilder
    output_type: Object
    adapter: AdapterReference | None
    weights: str
    """The model's name, with the digest of its adapter if it has one."""

    @classmethod
    def of(cls, module: Module, plan: Plan) -> ReadyModule:
        """Return a module of `plan` with all that its calls share made once: the constant part of its prompt, types, weights.

        Raises RenderError where the constant part of the prompt cannot be rendered.
        """
        lm = plan.lms[module.lm]
        adapter = module.adapter or lm.adapter
        return cls(
            builder_of(plan, module),
            Object(tuple((name, field.type) for name, field in module.outputs.items())),
            adapter,
            weights_of(lm.base, adapter),
        )


@dataclass
class Resources:
    """Prepared modules, opened tools and LMs of sub-programs and judges, each made when it is first asked for, and their
    settings.

    In a `dry_run` LMs are fakes, and so is each tool that writes or that is not on this machine: it returns a value of its
    result type. Without `imports` no code of the program is imported, and all tools but searches are fakes. `budget` limits all
    runs, `recording` answers in place of LMs and tools, `listeners` are exporters beside those of the spec.
    `dataclasses.replace` copies the settings and none of the objects.
    """

    dry_run: bool = False
    imports: bool = True
    """False: no tool but a search is called, since it may be code of the program; a made-up value of its type stands for its
    result."""
    budget: Budget | None = None
    """The common budget of all runs, including runs of sub-programs and judges."""
    recording: Recording | None = None
    """The source of every answer of an LM or tool; None for real calls."""
    make: Callable[[Declared], LM] | None = None
    """The maker of LMs of sub-programs and judges that is used in place of the usual one."""
    listeners: tuple[Exporter, ...] = ()
    """Functions that are called with the trace of each run, beside the exporters of the spec."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of every run in traces."""
    connections: Connections = field(default_factory=Connections)
    """Open connections of tools, shared by all versions of a program."""
    # Keyed by identity, and the key kept beside its value, so that an id can never come to mean something else.
    _modules: dict[int, tuple[Module, ReadyModule]] = field(default_factory=dict, init=False)
    _tools: dict[int, tuple[Tool, Callable[..., Any]]] = field(default_factory=dict, init=False)
    _lms: dict[int, tuple[Declared, LM]] = field(default_factory=dict, init=False)

    def charged_to(self, budget: Budget | None) -> Resources:
        """Return a copy with another budget (None: no budget), which shares the prepared modules, tools and LMs, also
        those that either makes later."""
        found = copy(self)
        found.budget = budget
        return found

    def module(self, module: Module, plan: Plan) -> ReadyModule:
        """Return a module prepared for its calls, made at the first call. Raises RenderError where the constant part of
        its prompt cannot be rendered, and UsageError for a module with `decoding: constrained` whose LM cannot
        guarantee that."""
        kept = self._modules.get(id(module))
        if kept is None:
            if not self.dry_run:
                _refuse_unconstrained(module, plan.lms[module.lm])
            kept = self._modules[id(module)] = (module, ReadyModule.of(module, plan))
        return kept[1]

    def tool(self, tool: Tool) -> Callable[..., Any]:
        """Return an async function that takes the tool's arguments by name and returns its result, or raises ToolFailed. It
        is made once: a recording's where there is one, a fake in a dry run (of a tool that writes or is not on this machine)
        and without `imports` (but for searches), else the real one. Raises UsageError where the tool cannot be made."""
        kept = self._tools.get(id(tool))
        if kept is None:
            if self.recording is not None:
                made = self.recording.tool(tool)
            elif (self.dry_run and (tool.effects == "write" or kind_of(tool.kind).remote)) or not (
                self.imports or tool.kind == "search"
            ):
                made = fake_tool(tool)
            else:
                made = make_tool(tool, self.connections)
            kept = self._tools[id(tool)] = (tool, made)
        return kept[1]

    def exports(self, plan: Plan) -> Sequence[Exporter]:
        """Return the exporters to call when a run of `plan` ends: the spec's and `listeners`; none for dry runs and
        replays. Raises UsageError for an exporter that cannot be made."""
        if self.dry_run or self.recording is not None:
            return ()
        return (*self.listeners, *exporters(plan)) if self.listeners else exporters(plan)

    def inner_lms(self, inner: Plan, outer: Plan, lms: Mapping[str, LM]) -> dict[str, LM]:
        """Return the LMs, by id, for the program `inner` that `outer` runs: an LM of the outer program that is declared
        equally, else a new one.

        `lms` are the LMs of `outer`. Of several that are declared equally the one with the same id is taken, else the
        first.
        """
        chosen = {}
        for id, lm in inner.lms.items():
            found = twin(lm, outer.lms)
            chosen[id] = lms[found] if found is not None else self.lm(lm)
        return chosen

    def remade(self, before: Mapping[str, Declared], after: Mapping[str, Declared]) -> dict[str, LM]:
        """Return new LMs, by id, for the declarations in `after` that name another model than those of the same id in
        `before`, of the LM itself or of one that may answer in its place; empty where all models are the same. Ids that
        `before` lacks are left out."""
        return {
            id: self.lm(lm)
            for id, lm in after.items()
            if id in before and [one.model for one in lm.answering] != [one.model for one in before[id].answering]
        }

    def lm(self, declared: Declared) -> LM:
        """Return the LM of a declaration in a sub-program or a judge: made when the declaration is first given, and the same
        one after; a recording's where there is one, a fake in a dry run."""
        kept = self._lms.get(id(declared))
        if kept is None:
            from lmprog.lms.fake import FakeLM
            from lmprog.lms.making import make_lm
            from lmprog.lms.routed import routed

            if self.recording is not None:
                made: LM = self.recording.lm(declared)
            else:
                made = FakeLM() if self.dry_run else routed(declared, (self.make or make_lm)(declared), self.lm)
            kept = self._lms[id(declared)] = (declared, made)
        return kept[1]


def _refuse_unconstrained(module: Module, lm: Declared) -> None:
    """Raise UsageError where a module needs constrained decoding from an LM that cannot guarantee it."""
    if module.decoding == "constrained" and not lm.backend.constrained:
        why = "" if lm.runs_here else ": it does not run in this process"
        raise UsageError(
            f"the module {module.id!r} has `decoding: constrained`, which {lm.model} cannot promise{why}; use `format: json`, "
            "which asks the provider for its structured output, or an `hf/` model"
        )
