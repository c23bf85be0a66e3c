"""Private values that reach someone who is not trusted (401, 402), and what may cross (403)."""

from __future__ import annotations

from lmprog.compiler.checks.names import all_steps
from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions import Expression
from lmprog.compiler.flow import Arrival, Flow, Name, Policy, Trail
from lmprog.compiler.goals import written_stages
from lmprog.compiler.plan import LM, Plan, Repeat, Value
from lmprog.compiler.source import Mapping, Place
from lmprog.compiler.teachers import named


def check(draft: Draft, plan: Plan) -> None:
    """Report where private values arrive that should not, with the way they take."""
    _Private(draft, plan).check()
    _declassified(draft, plan)


class _Private:
    def __init__(self, draft: Draft, plan: Plan) -> None:
        self.draft, self.plan = draft, plan
        self.told: set[tuple[str, str, str]] = set()
        self.teacher: Place | None = None
        """Where the teacher is named whose steps are looked at."""

    def check(self) -> None:
        policy = Policy(self._arrives, stops=_stops, marked_inputs=True)
        marks: dict[Name, Trail] = {}
        for name in self.plan.inputs:
            label = self._private_input(name)
            if label is not None:
                marks["inputs", name] = (label,)
        outputs: dict[str, Trail] = {}
        for key, trail in marks.items() or [((), ())]:
            # One source at a time: each has its own way and its own finding.
            found = Flow(self.plan, policy, {key: trail} if key else {}).run()
            outputs |= {name: way for name, way in found.items() if name not in outputs}
        outputs |= {name: way for name, way in self._taught(policy, marks).items() if name not in outputs}
        self._judges(marks, outputs)
        self._demos()

    def _taught(self, policy: Policy, marks: dict[Name, Trail]) -> dict[str, Trail]:
        """What of the private inputs is in the outputs of the teachers, which get them too."""
        outputs: dict[str, Trail] = {}
        teachers = self.plan.optimize.teachers if self.plan.optimize is not None else {}
        for node in named(written_stages(self.draft.node("optimize", "stages"))) if teachers else ():
            teacher = teachers.get(str(node.plain()))
            if teacher is not None:
                self.teacher = node.place
                for key, trail in marks.items() or [((), ())]:
                    outputs |= Flow(teacher, policy, {key: trail} if key else {}, f"{teacher.path.name}: ").run()
        self.teacher = None
        return outputs

    def _private_input(self, name: str) -> str | None:
        if self.plan.inputs[name].private:
            return f"inputs.{name} (private)"
        for split in self.plan.data.values():
            if name in split.private:
                return f"data.{split.name}.{name} (private)"
        return None

    # models and tools

    def _arrives(self, arrival: Arrival) -> None:
        place = self._place(arrival)
        if self.draft.root.map("export"):
            # Traces hold the arguments of tools too.
            self._tell("LMP402", self.draft.key("export"), arrival.trail, "export (outside)")
        if arrival.tool is not None:
            if not arrival.tool.trusted:
                self._tell("LMP401", place, arrival.trail, f"the tool {arrival.tool.id} (untrusted)")
            return
        assert arrival.module is not None
        lm = arrival.plan.lms.get(arrival.module.lm)
        if lm is not None:
            self._model(lm, arrival, place)
        self._proposer(arrival)

    def _model(self, lm: LM, arrival: Arrival, place: Place) -> None:
        if not lm.trusted:
            self._tell("LMP401", place, arrival.trail, f"{lm.id} (untrusted)")
        elif lm.shared_cache:
            self._tell("LMP402", place, arrival.trail, f"the shared cache of {lm.id}")

    def _proposer(self, arrival: Arrival) -> None:
        optimize = self.plan.optimize
        if optimize is None or optimize.proposer is None or arrival.plan is not self.plan:
            return
        lm = self.plan.lms.get(optimize.proposer)
        tuned = arrival.module is not None and "instructions" in optimize.tune.get(arrival.module.id, ())
        if lm is None or not tuned:
            return
        place = self.draft.place("optimize", "proposer")
        if not lm.trusted:
            self._tell("LMP402", place, arrival.trail, f"the proposer {lm.id} (untrusted)")
        elif lm.shared_cache:
            self._tell("LMP402", place, arrival.trail, f"the shared cache of the proposer {lm.id}")

    def _place(self, arrival: Arrival) -> Place:
        if self.teacher is not None:
            return self.teacher
        step, argument = arrival.outer
        node = self.draft.step_nodes.get(step.path)
        given = node.map("with") if node is not None else None
        if given is not None and argument in given.entries:
            return given.entries[argument].place
        return self.draft.step_keys.get(step.path, self.draft.root.place)

    def _tell(self, code: str, place: Place, trail: Trail, sink: str) -> None:
        key = (code, trail[0], f"{place}{sink if code == 'LMP401' else sink.split()[0]}")
        if key in self.told:
            return
        self.told.add(key)
        source = trail[0].removesuffix(" (private)")
        fix = "keep it away from there, use a trusted one, or declassify a module's output on the way, with a reason"
        self.draft.report.add(code, place, f"the private value {source} reaches {sink}", path=(*trail, sink), fix=fix)

    # judges, demos

    def _judges(self, marks: dict[Name, Trail], outputs: dict[str, Trail]) -> None:
        known = dict(marks)
        known |= {("outputs", name): trail for name, trail in outputs.items()}
        known |= {("row", name[1]): (f"row.{name[1]} (private)",) for name in marks}
        for split in self.plan.data.values():
            known |= {("row", name): (f"row.{name} (private)",) for name in split.private}
        for id, metric in self.plan.metrics.items():
            if metric.program is None:
                continue
            for name, expression in metric.arguments.items():
                trail = Flow(self.plan, Policy(lambda arrival: None), known).trail(expression)
                if trail is not None:
                    self._judge(id, metric.program, name, trail)

    def _judge(self, id: str, judge: Plan, argument: str, trail: Trail) -> None:
        place = self.draft.place("metrics", id, "with", argument)

        def arrives(arrival: Arrival) -> None:
            lm = arrival.plan.lms.get(arrival.module.lm) if arrival.module is not None else None
            if arrival.tool is not None and not arrival.tool.trusted:
                self._tell("LMP402", place, arrival.trail, f"the tool {arrival.tool.id} (untrusted) of the judge {id}")
            elif arrival.tool is None and lm is not None and not lm.trusted:
                self._tell("LMP402", place, arrival.trail, f"{lm.id} (untrusted) of the judge {id}")
            elif arrival.tool is None and lm is not None and lm.shared_cache:
                self._tell("LMP402", place, arrival.trail, f"the shared cache of {lm.id} of the judge {id}")

        Flow(judge, Policy(arrives, stops=_stops, marked_inputs=True), {("inputs", argument): trail}, f"{id}.").run()

    def _demos(self) -> None:
        """Demos are made of rows too: a private column must not become a demo of an untrusted LM, or one that shares."""
        optimize = self.plan.optimize
        split = self.plan.data.get(optimize.train) if optimize is not None else None
        if optimize is None or split is None:
            return
        private = set(split.private) | {name for name, field in self.plan.inputs.items() if field.private}
        for id, parts in optimize.tune.items():
            module = self.plan.modules.get(id)
            lm = self.plan.lms.get(module.lm) if module is not None else None
            if module is None or lm is None or (lm.trusted and not lm.shared_cache) or "demos" not in parts:
                continue
            code, sink = (
                ("LMP402", f"the shared cache of {lm.id}") if lm.trusted else ("LMP401", f"{lm.id} (untrusted)")
            )
            for name in sorted(private & {*module.inputs, *module.outputs}):
                place = self.draft.place("optimize", "tune", id)
                self._tell(code, place, (f"data.{split.name}.{name} (private)", f"demos of {id}"), sink)


def _stops(module: object, output: str) -> bool:
    return bool(module.outputs[output].declassify)  # type: ignore[attr-defined]


def _declassified(draft: Draft, plan: Plan) -> None:
    for name, field in plan.inputs.items():
        if field.declassify is not None:
            draft.report.add("LMP403", draft.place("inputs", name), "only the output of a module can be declassified")
    watched = _watched(plan)
    for id, module in plan.modules.items():
        for name, field in module.inputs.items():
            if field.declassify is not None:
                place = draft.place("modules", id, "inputs", name)
                draft.report.add("LMP403", place, "only the output of a module can be declassified")
        for name, field in module.outputs.items():
            if field.declassify is None:
                continue
            place = _place(draft, id, name)
            if not field.declassify.strip():
                message = f"the output `{name}` of module `{id}` is declassified without a reason"
                draft.report.add("LMP403", place, message, fix="write declassify: and why this is safe")
            elif (
                draft.options.evaluation
                and not _names_lost(draft)
                and not any(
                    (step.id, name) in watched
                    for step in all_steps(plan.steps)
                    if getattr(step.action, "module", None) == id
                )
            ):
                message = f"the output `{name}` of module `{id}` is declassified, and no metric reads it directly"
                fix = "make it an output of the program and give it to a metric that measures what leaks"
                draft.report.add("LMP403", place, message, fix=fix)


def _names_lost(draft: Draft) -> bool:
    """Whether a reference could not be followed, so that nobody knows what the metrics read."""
    codes = {finding.code for finding in draft.report.findings.values() if finding.severity == "error"}
    return bool(codes & {"LMP101", "LMP103", "LMP201", "LMP203", "LMP603"})


def _place(draft: Draft, id: str, name: str) -> Place:
    node = draft.node("modules", id, "outputs", name)
    if isinstance(node, Mapping):
        return node.key_place("declassify")
    return draft.place("modules", id, "outputs", name)


def _watched(plan: Plan) -> set[tuple[str, str]]:
    """The step outputs that a metric reads, itself or through expressions and loops alone."""
    values: dict[str, Expression] = {}
    states: dict[tuple[str, str], list[Expression]] = {}
    for step in all_steps(plan.steps):
        if isinstance(step.action, Value):
            values[step.id] = step.action.expression
        elif isinstance(step.action, Repeat):
            for name, update in step.action.next.items():
                states[step.id, name] = [
                    update.expression,
                    *([step.action.start[name]] if name in step.action.start else []),
                ]
    pending = [
        plan.outputs[name[1]]
        for metric in plan.metrics.values()
        for expression in [*metric.arguments.values(), *([metric.value] if metric.value else [])]
        for name in expression.references
        if name[0] == "outputs" and len(name) > 1 and name[1] in plan.outputs
    ]
    found: set[tuple[str, str]] = set()
    while pending:
        for read in pending.pop().references:
            if read[0] != "steps" or len(read) < 3 or (read[1], read[2]) in found:
                continue
            found.add((read[1], read[2]))
            if read[1] in values:
                pending.append(values[read[1]])
            pending += states.get((read[1], read[2]), [])
    return found
