"""Data flow: how marked values (private ones, or text from outside) move through steps, loops and sub-programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import Module, ModuleCall, Plan, ProgramCall, Repeat, Step, Tool, ToolCall, Value
from lmprog.compiler.steps.parts import expressions, inner

Trail = tuple[str, ...]
"""The path of a marked value as texts: its source, then the outputs that carried it."""
Name = tuple[str, ...]


class Arrival(NamedTuple):
    """A marked value (private, or text from outside) that a step of `plan` passes to a module or tool, as the flow analysis
    reports it: `module` or `tool` is None, but for a tool of an agent, where `module` is the agent.

    `argument` is the name under which it is passed, `trail` the way that it took, and `outer` the call site (step and
    argument) in the program that is checked: outside of sub-programs the same step and argument.
    """

    plan: Plan
    step: Step
    argument: str
    trail: Trail
    """The way of the value from its source; its last item names the step and its argument."""
    outer: tuple[Step, str]
    """The call site in the program that is checked, and the argument that brings the value there."""
    module: Module | None = None
    tool: Tool | None = None


@dataclass(frozen=True, eq=False)
class Policy:
    """The rules of a flow analysis: which values are marked (private, or text from outside), and what unmarks them.

    `arrives` is called for each marked value that reaches a module, a tool, or a tool of an agent, at times more than once
    for the same one; `source(plan, step, output)` returns why a step's output is marked by itself (None: it is not), and
    `stops(module, output)` whether a module's output is unmarked whatever its inputs are, unless `source` marks it. With
    `by_choice` a marked value also marks what it decides, by `when`, `until` or the number of items.
    """

    arrives: Callable[[Arrival], None]
    source: Callable[[Plan, Step, str], str | None] = lambda plan, step, output: None
    """A function of plan, step and output: the first item of the trail of an output that is marked by itself, or None."""
    stops: Callable[[Module, str], bool] = lambda module, output: False
    """A function of module and output: True where the output is unmarked whatever the module's inputs are."""
    marked_inputs: bool = False
    """True if the private inputs of modules and sub-programs are themselves sources of marks."""
    instructions: Callable[[Plan, Module], Trail | None] = lambda plan, module: None
    """A function of plan and module: the trail of a marked value into the module's instructions, which an LM wrote, or None."""
    by_choice: bool = False
    """True if a marked value also marks what it decides: by `when`, by `until`, or by the count of a `foreach`."""


@dataclass
class Flow:
    """The analysis of which names hold marked values (private, or text from outside) in a program, or in a sub-program
    at one call site (`outer`, None: the program itself).

    `policy` says where marks begin and end and what is done where one arrives; `marks` has the trail of each marked
    name, such as `("inputs", "text")`, at first of those that are marked from outside, and is changed in place; `prefix` is
    put before the ids of steps in trails.
    """

    plan: Plan
    policy: Policy
    marks: dict[Name, Trail] = field(default_factory=dict)
    prefix: str = ""
    outer: tuple[Step, str] | None = None
    chosen: Trail | None = None
    """Trail of the marked value that decides whether, or how often, the current steps run."""
    item: Trail | None = None
    """Trail of the marked value in the items of the current `foreach`."""

    def run(self) -> Mapping[str, Trail]:
        """Follow marked values through all steps and sub-programs, and call `policy.arrives` on the way; return the trails of
        the marked outputs of the program, by name. Unmarked outputs are left out. Called once."""
        self._steps(self.plan.steps)
        found = {name: self.trail(expression) or self.chosen for name, expression in self.plan.outputs.items()}
        return {name: trail for name, trail in found.items() if trail is not None}

    def trail(self, expression: Expression | None) -> Trail | None:
        """Return the trail of a marked value that an expression reads, the first by the alphabet of the names; None where it
        reads none, and for None. To read a whole step (`steps.a`) is to read all its outputs."""
        if expression is None or not (self.marks or self.item):
            return None
        for name in sorted(expression.references):
            if name[0] == "item" and self.item is not None:
                return self.item
            for length in range(2, len(name) + 1):
                if name[:length] in self.marks:
                    return self.marks[name[:length]]
            if len(name) <= 2 or name[0] in ("trace", "runs"):
                inner = next((trail for key, trail in self.marks.items() if key[: len(name)] == name), None)
                if inner is not None:
                    return inner
        return None

    def _steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._step(step)

    def _step(self, step: Step) -> None:
        around = self.chosen
        if self.policy.by_choice and around is None:
            self.chosen = self._choice(step)
        self._action(step)
        for values in (step.otherwise, step.on_error or {}):
            for name, expression in values.items():
                self._mark(step, name, self.trail(expression))
        if self.policy.by_choice:
            failing = self._inside(step) if step.on_error is not None or _abstains(step) else None
            for name in step.outputs:
                self._mark(step, name, self.chosen or failing)
        self._leave(step)
        self.chosen = around

    def _action(self, step: Step) -> None:
        action = step.action
        if isinstance(action, ModuleCall) and action.module in self.plan.modules:
            self._module(step, self.plan.modules[action.module], self._marked(step, action.arguments))
        elif isinstance(action, ToolCall) and action.tool in self.plan.tools:
            self._tool(step, self.plan.tools[action.tool], self._marked(step, action.arguments))
        elif isinstance(action, ProgramCall):
            self._program(step, action, self._marked(step, action.arguments))
        elif isinstance(action, Value):
            self._mark(step, "value", self.trail(action.expression))
        elif isinstance(action, Repeat):
            self._repeat(step, action)

    def _choice(self, step: Step) -> Trail | None:
        """Return the trail of a marked value that decides whether, or how often, a step runs, or None."""
        foreach = step.foreach.items if step.foreach is not None else None
        for key, expression in (("when", step.when), ("foreach", foreach)):
            trail = self.trail(expression)
            if trail is not None:
                return (*trail, f"{key} of {self.prefix}{step.path}")
        return None

    def _inside(self, step: Step) -> Trail | None:
        """Return the trail of a marked value that an expression of a step, or of a step inside it, reads, so that it may
        make the step fail; None where there is none."""
        trails = (self.trail(expression) for expression in expressions(step))
        return next((trail for trail in trails if trail is not None), None)

    def _leave(self, step: Step) -> None:
        """Remove the marks of the steps inside a loop when it has ended: other loops may have steps of the same names."""
        inside = {within.id for within in inner(step)}
        for key in [key for key in self.marks if key[0] == "steps" and key[1] in inside] if inside else ():
            del self.marks[key]

    def _mark(self, step: Step, output: str, trail: Trail | None) -> None:
        """Mark an output of a step by the trail that leads to it, unless it is marked already; None marks nothing."""
        key = ("steps", step.id, output)
        if trail is not None and key not in self.marks:
            shown = f"{self.prefix}{step.path}.{output}"
            self.marks[key] = trail if trail[-1] == shown else (*trail, shown)

    def _marked(self, step: Step, arguments: Mapping[str, Expression]) -> dict[str, Trail]:
        """Return the trails of the arguments of a step's call that are marked, by name; `item` has the mark of the list
        under `foreach`."""
        self.item = self.trail(step.foreach.items) if step.foreach is not None else None
        found = {name: self.trail(expression) for name, expression in arguments.items()}
        self.item = None
        return {name: trail for name, trail in found.items() if trail is not None}

    def _origin(self, step: Step, argument: str) -> tuple[Step, str]:
        """Return the call site in the program that is checked: the step itself, or that which called this sub-program."""
        return self.outer if self.outer is not None else (step, argument)

    def _arriving(self, step: Step, marked: Mapping[str, Trail]) -> Iterator[tuple[str, Trail, tuple[Step, str]]]:
        """Yield the marked arguments of a call, each with its trail and call site; where there are none, the condition or
        list by which a marked value decides whether the call is made."""
        for argument, trail in marked.items():
            yield argument, (*trail, f"{self.prefix}{step.path}.{argument}"), self._origin(step, argument)
        if not marked and self.chosen is not None:
            key = "when" if step.when is not None else "foreach"
            yield key, (*self.chosen, f"{self.prefix}{step.path}"), self._origin(step, key)

    def _module(self, step: Step, module: Module, marked: dict[str, Trail]) -> None:
        if self.policy.marked_inputs:
            for name, declared in module.inputs.items():
                if declared.private:
                    marked.setdefault(name, (f"{module.id}.{name} (private)",))
        instructions = self.policy.instructions(self.plan, module)
        if instructions is not None:
            marked.setdefault("instructions", instructions)
        for argument, shown, origin in self._arriving(step, marked):
            self.policy.arrives(Arrival(self.plan, step, argument, shown, origin, module=module))
            for tool in module.tools:
                if tool in self.plan.tools:
                    arrival = Arrival(self.plan, step, argument, shown, origin, module, self.plan.tools[tool])
                    self.policy.arrives(arrival)
        carried = next(iter(marked.values()), None)
        for output in module.outputs:
            if not self.policy.stops(module, output):
                self._mark(step, output, carried)
            self._fresh(step, output)

    def _tool(self, step: Step, tool: Tool, marked: Mapping[str, Trail]) -> None:
        for argument, shown, origin in self._arriving(step, marked):
            self.policy.arrives(Arrival(self.plan, step, argument, shown, origin, tool=tool))
        self._mark(step, tool.result, next(iter(marked.values()), None))
        self._fresh(step, tool.result)

    def _fresh(self, step: Step, output: str) -> None:
        """Mark an output that is marked by itself, unless it is marked already."""
        source = self.policy.source(self.plan, step, output)
        key = ("steps", step.id, output)
        if source is not None and key not in self.marks:
            self.marks[key] = (source, f"{self.prefix}{step.path}.{output}")

    def _program(self, step: Step, call: ProgramCall, marked: Mapping[str, Trail]) -> None:
        plan = call.plan
        inputs: dict[Name, Trail] = {("inputs", name): trail for name, trail in marked.items()}
        if self.policy.marked_inputs:
            for name, declared in plan.inputs.items():
                if declared.private and ("inputs", name) not in inputs:
                    inputs["inputs", name] = (f"{self.prefix}{step.path}.{name} (private)",)
        for key, trail in inputs.items() or [((), ())]:
            # One mark at a time, so that each finding stands at the argument that brings it.
            name = key[1] if key else ""
            marks = {key: trail} if key else {}
            outer = self._origin(step, name)
            flow = Flow(plan, self.policy, marks, f"{self.prefix}{step.path}.", outer, self.chosen)
            for output, way in flow.run().items():
                self._mark(step, "answer" if call.answers else output, way)

    def _repeat(self, step: Step, loop: Repeat) -> None:
        started = {name: self.trail(expression) for name, expression in loop.start.items()}
        outside = {key: trail for key, trail in self.marks.items() if key[0] == "state"}
        for key in outside:
            del self.marks[key]
        self.marks |= {("state", name): trail for name, trail in started.items() if trail is not None}
        while True:
            before = len(self.marks), self.chosen
            self._steps(loop.steps)
            for name, update in loop.next.items():
                trail = self.trail(update.expression) or self.chosen
                if trail is not None:
                    self.marks.setdefault(("state", name), trail)
            if self.policy.by_choice and self.chosen is None:
                ends = self.trail(loop.until)
                self.chosen = (*ends, f"until of {self.prefix}{step.path}") if ends is not None else None
            if (len(self.marks), self.chosen) == before:
                break
        final = {name: self.marks.pop(("state", name)) for name in loop.state if ("state", name) in self.marks}
        self.marks |= outside
        for name, trail in final.items():
            self._mark(step, name, trail)


def _abstains(step: Step) -> bool:
    """Return whether a step runs a member of an ensemble, whose failure leaves its answer out and ends nothing."""
    return isinstance(step.action, ProgramCall) and step.action.answers
