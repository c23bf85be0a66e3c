"""Reading and checks of the teacher programs that stages name."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Map

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.optimizing.contract import UNDECLARED, teaching_facts
from lmprog.compiler.plan import Field, Optimize, Plan
from lmprog.compiler.types.lattice import Optional, assignable
from lmprog.compiler.yaml.source import Mapping, Node, Place, Scalar, Sequence


def named(entries: Iterator[Node]) -> Iterator[tuple[Scalar, str]]:
    """Yield the nodes that name a teacher program in the stages `entries`, each with the part of modules that is learnt
    from it, `weights` or `demos`; stages whose optimizer takes no teachers give none."""
    for entry in entries:
        for stage, options in entry.entries.items() if isinstance(entry, Mapping) else ():
            listed = options.get("teachers") if isinstance(options, Mapping) else None
            facts = teaching_facts(stage) if isinstance(listed, Sequence) else UNDECLARED
            for teacher in listed.items if isinstance(listed, Sequence) and facts.takes_teachers else ():
                program = teacher.get("program") if isinstance(teacher, Mapping) else None
                if isinstance(program, Scalar):
                    yield program, facts.taught


def read_teachers(draft: Draft, entries: Iterator[Node]) -> dict[str, Plan]:
    """Return the plans of the teachers that the stages `entries` name, by their paths as written; one that cannot be
    compiled gets a finding, and is left out."""
    found = {}
    for program, _ in named(entries):
        what = "a teacher"
        file = draft.file(program, what)
        plan = draft.compile(file, program.place, what) if file is not None else None
        if plan is not None:
            found[str(program.plain())] = plan
    return found


def check(draft: Draft, plan: Plan, optimize: Optimize, entries: Iterator[Node]) -> None:
    """Report the teachers, of the stages `entries`, that the program `plan` cannot learn from, each where it is
    named: LMP203 for an input that does not fit or that the program lacks, an output that does not fit or that the
    teacher lacks, and a tuned module that it lacks or has with other inputs or outputs; LMP701 for a module whose
    weights are tuned and that has tools in either. `optimize` has the teachers' plans (one without is passed over)
    and what is tuned."""
    for program, tuned in named(entries):
        teacher = optimize.teachers.get(str(program.plain()))
        if teacher is not None:
            _Fit(draft, plan, teacher, program.place).check(optimize, tuned)


class _Fit:
    """The check of one teacher program against the program that learns from it; its findings stand at `place`, where the
    teacher is named."""

    def __init__(self, draft: Draft, plan: Plan, teacher: Plan, place: Place) -> None:
        self.draft, self.plan, self.teacher, self.place = draft, plan, teacher, place
        self.name = f"the teacher `{teacher.path.name}`"

    def check(self, optimize: Optimize, tuned: str) -> None:
        self._inputs()
        self._outputs()
        for id, parts in optimize.tune.items():
            if tuned in parts:
                self._module(id, tuned)

    def _inputs(self) -> None:
        """Report inputs of the teacher that the program, on whose inputs it runs, has with a type that does not fit, or does
        not have though the teacher needs them."""
        for name, field in self.teacher.inputs.items():
            own = self.plan.inputs.get(name)
            if own is None:
                if not field.has_default and not isinstance(field.type, Optional):
                    message = f"{self.name} needs the input `{name}`, which this program does not have"
                    self._tell(message, suggestion(name, self.plan.inputs, "inputs"))
            elif not assignable(own.type, field.type):
                message = f"the input `{name}` of {self.name} is {field.type}, and {own.type} here"
                self._tell(message, "give both one type")

    def _outputs(self) -> None:
        """Report outputs of the program, which its metric may read, that the teacher lacks or has with a type that does not
        fit."""
        for name, kind in self.plan.output_types.items():
            found = self.teacher.output_types.get(name)
            if found is None:
                message = f"{self.name} has no output `{name}`, so that the metric cannot score it"
                self._tell(message, suggestion(name, self.teacher.output_types, "its outputs"))
            elif not assignable(found, kind):
                message = f"the output `{name}` of {self.name} is {found}, and {kind} here"
                self._tell(message, "give both one type")

    def _module(self, id: str, tuned: str) -> None:
        """Report a tuned module that the teacher lacks, has with other inputs or outputs, or, for weights, with tools."""
        module, own = self.teacher.modules.get(id), self.plan.modules[id]
        if module is None:
            message = f"{self.name} has no module `{id}`, whose {tuned} are tuned"
            self._tell(message, suggestion(id, self.teacher.modules, "its modules"))
            return
        self._fields(f"inputs of module `{id}`", module.inputs, own.inputs)
        self._fields(f"outputs of module `{id}`", module.outputs, own.outputs)
        if tuned == "weights" and (module.tools or own.tools):
            message = f"the module `{id}` has tools, here or in {self.name}: an agent learns from its own turns alone"
            self._tell(message, "take its tools out of both, or its weights out of tune:", "LMP701")

    def _fields(self, what: str, found: Map[str, Field], wanted: Map[str, Field]) -> None:
        theirs, ours = ({name: field.type for name, field in fields.items()} for fields in (found, wanted))
        if theirs != ours:
            written = [", ".join(f"{name}: {kind}" for name, kind in types.items()) for types in (theirs, ours)]
            message = f"the {what} of {self.name} are {{{written[0]}}}, and {{{written[1]}}} here"
            self._tell(message, "declare the same names with the same types in both")

    def _tell(self, message: str, fix: str, code: str = "LMP203") -> None:
        self.draft.report.add(code, self.place, message, fix=fix)
