"""Private values that reach an LM, a tool, a file or an overlay that is not trusted (401, 402)."""

from __future__ import annotations

from lmprog.compiler.checks import declassified, overlays
from lmprog.compiler.checks.declassified import Crossing
from lmprog.compiler.draft import Draft
from lmprog.compiler.ensembles import KEY
from lmprog.compiler.findings.finding import Severity
from lmprog.compiler.optimizing.optimize_block import written_stages
from lmprog.compiler.optimizing.teachers import named
from lmprog.compiler.plan import Module, Plan
from lmprog.compiler.steps.parts import walk
from lmprog.compiler.trust.flow import Arrival, Flow, Name, Policy, Trail
from lmprog.compiler.trust.private import holds_private, private_columns, private_inputs, private_policy, private_rows
from lmprog.compiler.yaml.source import Mapping, Place


def check(draft: Draft, plan: Plan) -> None:
    """Report private values that reach an untrusted LM or tool (LMP401), or a shared cache, exported traces, the proposer, a
    judge's LM or demos in an overlay (LMP402), with the steps by which they get there; as warnings where they only decide
    what arrives. Also run the check of declassified outputs (LMP403)."""
    private = _Private(draft, plan)
    private.check()
    declassified.check(draft, plan, private.crossings)


class _Private:
    """The check of one program for private values that reach an untrusted LM, tool or file, with what its passes find."""

    def __init__(self, draft: Draft, plan: Plan) -> None:
        self.draft, self.plan = draft, plan
        self.reported: set[tuple[str, str, str]] = set()
        self.shown: dict[str, Trail] = {}
        """Trails of private values to the modules that receive any, in the program or its teachers, by module id, of the
        present pass."""
        self.carried: dict[Name, Trail] = {}
        """Trails of private values to the outputs of the program's steps that hold any, by `("steps", id, output)`."""
        self.teacher: Place | None = None
        """The place that names the teacher whose steps are checked; None outside of teachers."""
        self.by_choice = False
        """True in the last pass, over what private values decide: a warning where no value itself arrives."""
        self.proposed: Trail | None = None
        """Trail of a private value to the proposer; None where none gets there."""
        self.quoted: Trail | None = None
        """Trail of a private value to the proposer, in the passes that follow what the proposer writes; None before them."""
        self.reached: dict[str, Trail] = {}
        """Trails of private values into the calls of each module of the program, by module id, of all passes but the last."""
        self.teaches = ""
        """The part of modules that is learnt from the runs of `self.teacher`: demos or weights."""
        self.taught: dict[str, dict[str, Trail]] = {"demos": {}, "weights": {}}
        """Trails of private values into the calls of a teacher's modules, from which demos or weights are learnt: by that
        part, and by module id."""
        self.crossings: list[Crossing] = []
        """Private values that arrive at modules of sub-programs and judges, whose outputs may be declassified."""

    def check(self) -> None:
        """Report where private values go, where they are quoted by the proposer, what is learnt of them, and what they decide;
        nothing for a program without private values."""
        if not holds_private(self.plan):
            return
        marks = private_inputs(self.plan)
        self._follow(marks)
        if self.proposed is not None:
            # Once more: a module whose instructions may quote what the proposer read is given it in each call.
            self.quoted = self.proposed
            self._follow(marks)
        self._learnt()
        self.by_choice = True
        self._follow(marks)
        overlays.check(self.draft, self.plan, {**self.taught["demos"], **self.reached})

    def _follow(self, marks: dict[Name, Trail]) -> None:
        """Follow the private inputs (`marks`: by name, each with its trail so far) through the program, its teachers and
        judges, to the proposer and to the judge of an `ensemble` stage, and report where they arrive."""
        outputs = self._outputs(marks)
        self._judges(marks, outputs)
        self._proposer(marks, outputs)
        self._picker(marks, outputs)

    def _outputs(self, marks: dict[Name, Trail]) -> dict[str, Trail]:
        """Follow the private inputs (`marks`) through the program and its teachers, and report where they arrive; return the
        trails to the outputs that they reach, by output."""
        policy = private_policy(self._arrives, by_choice=self.by_choice, instructions=self._instructions)
        outputs: dict[str, Trail] = {}
        self.shown, self.carried = {}, {}
        for key, trail in marks.items() or [((), ())]:
            # One source at a time: each has its own way and its own finding.
            flow = Flow(self.plan, policy, {key: trail} if key else {})
            found = flow.run()
            self.carried |= {name: way for name, way in flow.marks.items() if name not in self.carried}
            outputs |= {name: way for name, way in found.items() if name not in outputs}
        taught = self._taught(policy, marks)
        return outputs | {name: way for name, way in taught.items() if name not in outputs}

    def _taught(self, policy: Policy, marks: dict[Name, Trail]) -> dict[str, Trail]:
        """Follow the private inputs through the teachers, which receive the inputs too, and report where they arrive; return
        the trails to the outputs of the teachers."""
        outputs: dict[str, Trail] = {}
        teachers = self.plan.optimize.teachers if self.plan.optimize is not None else {}
        for node, tuned in named(written_stages(self.draft.node("optimize", "stages"))) if teachers else ():
            teacher = teachers.get(str(node.plain()))
            if teacher is not None:
                self.teacher, self.teaches = node.place, tuned
                for key, trail in marks.items() or [((), ())]:
                    flow = Flow(teacher, policy, {key: trail} if key else {}, f"{teacher.path.name}: ")
                    outputs |= flow.run()
        self.teacher = None
        return outputs

    # models and tools

    def _arrives(self, arrival: Arrival) -> None:
        """Record and report a private value that arrives at a module or tool of the program, a sub-program or a teacher."""
        if arrival.module is not None and (self.teacher is not None or arrival.plan is self.plan):
            self.shown.setdefault(arrival.module.id, arrival.trail)
        if arrival.module is not None and arrival.plan is self.plan and not self.by_choice:
            self.reached.setdefault(arrival.module.id, arrival.trail)
        if arrival.module is not None and self._is_teacher(arrival) and not self.by_choice:
            self.taught[self.teaches].setdefault(arrival.module.id, arrival.trail)
        if arrival.plan is not self.plan and self.teacher is None:
            self._crossing(arrival, self._place(arrival), self.plan)
        if self.draft.root.map("export"):
            # Traces hold the arguments of tools too.
            self._tell("LMP402", self.draft.key("export"), arrival.trail, "export (outside)")
        if self._is_teacher(arrival) and arrival.plan.export is not None:
            self._tell("LMP402", self._place(arrival), arrival.trail, f"export (outside) of {arrival.plan.path.name}")
        if arrival.tool is not None:
            if not arrival.tool.trusted:
                self._tell("LMP401", self._place(arrival), arrival.trail, f"the tool {arrival.tool.id} (untrusted)")
        else:
            assert arrival.module is not None
            lm = arrival.plan.lms.get(arrival.module.lm)
            if lm is not None and not lm.trusted:
                self._tell("LMP401", self._place(arrival), arrival.trail, f"{lm.id} (untrusted)")
            elif lm is not None and lm.answers_are_shared:
                self._tell("LMP402", self._place(arrival), arrival.trail, f"the shared cache of {lm.id}")
        self._to_proposer(arrival.trail)

    def _crossing(self, arrival: Arrival, place: Place, root: Plan) -> None:
        if arrival.module is not None and not self.by_choice:
            self.crossings.append(Crossing(arrival.plan, arrival.module, place, root))

    def _is_teacher(self, arrival: Arrival) -> bool:
        return self.plan.optimize is not None and any(
            arrival.plan is teacher for teacher in self.plan.optimize.teachers.values()
        )

    # the proposer

    def _proposer(self, marks: dict[Name, Trail], outputs: dict[str, Trail]) -> None:
        """Report private values that the proposer of instructions is shown: columns of train rows, and feedback of metrics;
        nothing in the pass over what values decide."""
        if self.plan.optimize is None or self.by_choice:
            return
        for known, trail in self._known(marks, outputs).items():
            if known[0] == "metrics":
                self._to_proposer((*trail, "feedback"))
        split = self.plan.data.get(self.plan.optimize.train)
        for name in sorted(private_columns(self.plan, split)) if split is not None else ():
            source = marks.get(("inputs", name), (f"data.{self.plan.optimize.train}.{name} (private)",))
            self._to_proposer((*source, f"rows of data.{self.plan.optimize.train}"))

    def _to_proposer(self, trail: Trail) -> None:
        """Report a private value that arrives in a run, a row or a score, which replies, errors and feedback may quote, where
        instructions are tuned and their proposer is untrusted or has a shared cache; note it in `proposed`."""
        optimize = self.plan.optimize
        lm = self.plan.lms.get(optimize.proposer) if optimize is not None and optimize.proposer is not None else None
        if optimize is None or lm is None or not any("instructions" in parts for parts in optimize.tune.values()):
            return
        if not self.by_choice and self.proposed is None:
            self.proposed = (*trail, f"the proposer {lm.id}")
        place = self.draft.place("optimize", "proposer")
        if not lm.trusted:
            self._tell("LMP402", place, trail, f"the proposer {lm.id} (untrusted)")
        elif lm.answers_are_shared:
            self._tell("LMP402", place, trail, f"the shared cache of the proposer {lm.id}")

    def _instructions(self, plan: Plan, module: Module) -> Trail | None:
        """Return the trail of a private value into the instructions of a module that the proposer writes; None where it
        writes none, may not quote private values, or none reaches it."""
        optimize = self.plan.optimize
        if self.quoted is None or optimize is None or optimize.declassify or plan is not self.plan:
            return None
        written = "instructions" in optimize.tune.get(module.id, ())
        return (*self.quoted, f"instructions of {module.id}") if written else None

    def _picker(self, marks: dict[Name, Trail], outputs: dict[str, Trail]) -> None:
        """Report private inputs and outputs of the program that the judge of an `ensemble` stage is shown."""
        for entry in written_stages(self.draft.node("optimize", "stages")):
            options = entry.map(KEY) if isinstance(entry, Mapping) else None
            node = options.get("judge") if options is not None else None
            lm = self.plan.lms.get(str(node.plain())) if node is not None else None
            for trail in (*marks.values(), *outputs.values()) if lm is not None else ():
                assert lm is not None and node is not None
                if not lm.trusted:
                    self._tell("LMP401", node.place, trail, f"{lm.id} (untrusted)")
                elif lm.answers_are_shared:
                    self._tell("LMP402", node.place, trail, f"the shared cache of {lm.id}")

    def _place(self, arrival: Arrival) -> Place:
        """Return the place in the checked file at which a value is passed on: the teacher, the argument, or the step."""
        if self.teacher is not None:
            return self.teacher
        step, argument = arrival.outer
        node = self.draft.step_nodes.get(step.path)
        given = node.map("with") if node is not None else None
        for around in (given, node):
            if around is not None and argument in around.entries:
                return around.entries[argument].place
        return self.draft.step_keys.get(step.path, self.draft.root.place)

    def _tell(self, code: str, place: Place, trail: Trail, sink: str) -> None:
        """Report, once for each source and place, that the private value at the start of a trail reaches a sink."""
        key = (code, trail[0], f"{place}{sink if code == 'LMP401' else sink.split()[0]}")
        if key in self.reported:
            return
        self.reported.add(key)
        source = trail[0].removesuffix(" (private)")
        fix = "keep it away from there, use a trusted one, or declassify a module's output on the way, with a reason"
        message = f"the private value {source} reaches {sink}"
        if any(name.startswith("instructions of ") for name in trail):
            fix = "take instructions out of tune, or say in optimize: declassify: why the rows may be read"
        if self.by_choice:
            message = f"the private value {source} chooses what reaches {sink}"
            fix = "choose by a value that is not private, or use a trusted one"
        severity: Severity | None = "warning" if self.by_choice else None
        self.draft.report.add(code, place, message, path=(*trail, sink), fix=fix, severity=severity)

    # judges, demos, rows of training

    def _known(self, marks: dict[Name, Trail], outputs: dict[str, Trail]) -> dict[Name, Trail]:
        """Return the private names that a metric can read, with their trails: inputs, columns of rows, outputs, traces, and
        other metrics that are computed from private values."""
        known = marks | private_rows(self.plan)
        known |= {("outputs", name): trail for name, trail in outputs.items()}
        known |= {("runs", "outputs", name): trail for name, trail in outputs.items()}
        known |= self._traced()
        known |= self._judged()
        flow = Flow(self.plan, private_policy(lambda arrival: None), known)
        while True:
            before = len(known)
            for id, metric in self.plan.metrics.items():
                for expression in metric.expressions:
                    trail = flow.trail(expression)
                    if trail is not None:
                        known.setdefault(("metrics", id), (*trail, f"metrics.{id}"))
            if len(known) == before:
                return known

    def _judged(self) -> dict[Name, Trail]:
        """Return the metrics whose judge program has private inputs of its own that reach its outputs, with their trails: its
        score, or the error where it fails, may quote them."""
        found: dict[Name, Trail] = {}
        for id, metric in self.plan.metrics.items():
            if metric.judge is not None:
                own = private_inputs(metric.judge)
                flow = Flow(metric.judge, private_policy(lambda arrival: None), own, f"{id}.")
                for trail in flow.run().values():
                    found.setdefault(("metrics", id), (*trail, f"metrics.{id}"))
        return found

    def _judges(self, marks: dict[Name, Trail], outputs: dict[str, Trail]) -> None:
        judges = {id: metric for id, metric in self.plan.metrics.items() if metric.judge is not None}
        if not judges:
            return
        flow = Flow(self.plan, private_policy(lambda arrival: None), self._known(marks, outputs))
        for id, metric in judges.items():
            assert metric.judge is not None
            # A judge may have private values of its own, whatever it is given.
            self._judge(id, metric.judge, "", None)
            for name, expression in metric.arguments.items():
                trail = flow.trail(expression)
                if trail is not None:
                    self._judge(id, metric.judge, name, trail)

    def _traced(self) -> dict[Name, Trail]:
        """Return the names of the trace (`("trace", "modules", ...)`) that hold private values, with their trails.

        A module's reply may hold whatever the module was given, also where its output is declassified.
        """
        found: dict[Name, Trail] = {}
        for id, trail in self.shown.items():
            if id in self.plan.modules:
                found["trace", "modules", id, "replies"] = (*trail, f"{id}'s reply")
        for step in walk(self.plan.steps):
            module = self.plan.modules.get(getattr(step.action, "module", ""))
            for output in module.outputs if module is not None else ():
                if module is not None and ("steps", step.id, output) in self.carried:
                    key = ("trace", "modules", module.id, "outputs", output)
                    found.setdefault(key, self.carried["steps", step.id, output])
        return found

    def _judge(self, id: str, judge: Plan, argument: str, trail: Trail | None) -> None:
        """Report where a private value goes in the judge program of the metric `id`: the value of its `argument`, with its
        trail; or, with `trail` None, the judge's own private inputs."""
        written = self.draft.node("metrics", id, "with", argument)
        place = written.place if written is not None else self.draft.key("metrics", id)

        def arrives(arrival: Arrival) -> None:
            self._crossing(arrival, place, judge)
            lm = arrival.plan.lms.get(arrival.module.lm) if arrival.module is not None else None
            if judge.export is not None:
                self._tell("LMP402", place, arrival.trail, f"export (outside) of the judge {id}")
            if arrival.tool is not None and not arrival.tool.trusted:
                self._tell("LMP402", place, arrival.trail, f"the tool {arrival.tool.id} (untrusted) of the judge {id}")
            elif arrival.tool is None and lm is not None and not lm.trusted:
                self._tell("LMP402", place, arrival.trail, f"{lm.id} (untrusted) of the judge {id}")
            elif arrival.tool is None and lm is not None and lm.answers_are_shared:
                self._tell("LMP402", place, arrival.trail, f"the shared cache of {lm.id} of the judge {id}")

        marks: dict[Name, Trail] = {("inputs", argument): trail} if trail is not None else {}
        if trail is None:
            own = {name: (f"{id}.{name} (private)",) for name, field in judge.inputs.items() if field.private}
            marks = {("inputs", name): way for name, way in own.items()}
        Flow(judge, private_policy(arrives, by_choice=self.by_choice), marks, f"{id}.").run()

    def _learnt(self) -> None:
        """Report private columns that can become demos of an LM that is untrusted or has a shared cache, or rows that an
        untrusted provider trains on.

        Both are made of rows and of runs of teachers, so that a private column reaches the LM through them.
        """
        optimize = self.plan.optimize
        split = self.plan.data.get(optimize.train) if optimize is not None else None
        if optimize is None or split is None:
            return
        private = private_columns(self.plan, split)
        for id, parts in optimize.tune.items():
            module = self.plan.modules.get(id)
            lm = self.plan.lms.get(module.lm) if module is not None else None
            if module is None or lm is None or (lm.trusted and not lm.answers_are_shared):
                continue
            code, sink = (
                ("LMP402", f"the shared cache of {lm.id}") if lm.trusted else ("LMP401", f"{lm.id} (untrusted)")
            )
            sent = lm.finetunes and not lm.trusted
            for part, into in (("demos", f"demos of {id}"), *([("weights", f"training rows of {id}")] if sent else [])):
                if part not in parts:
                    continue
                place = self.draft.place("optimize", "tune", id)
                for name in sorted(private & {*module.inputs, *module.outputs}):
                    self._tell(code, place, (f"data.{split.name}.{name} (private)", into), sink)
                if id in self.taught[part] and id not in self.reached:
                    self._tell(code, place, (*self.taught[part][id], into), sink)
