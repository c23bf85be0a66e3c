"""A program that can be run: a checked plan, and an LM for each that it names."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from lmprog.aio.loops import run_async, run_briefly
from lmprog.boundary.notebook import NotebookBar, table
from lmprog.boundary.tables import as_list, as_rows, plain
from lmprog.compiler.bounds import bounds
from lmprog.compiler.plan import LM as Declared
from lmprog.compiler.plan import Plan
from lmprog.compiler.types.lattice import mismatch
from lmprog.errors import UsageError
from lmprog.failure import Failure
from lmprog.lms.lm import LM
from lmprog.lms.making import is_declared, make_lm
from lmprog.lms.routed import routed
from lmprog.runtime.change import Change, laid_over
from lmprog.runtime.events import Event, Listener, followed
from lmprog.runtime.options import AS_IT_IS, RunOptions
from lmprog.runtime.resources import Resources
from lmprog.runtime.result import Result, RunError
from lmprog.runtime.runner import HERE, Job, Runner
from lmprog.spending.budget import Budget
from lmprog.traces.run_trace import Exporter
from lmprog.traces.tags import checked

MAX_LOOKAHEAD = 8
"""Look-ahead: at most this number times `concurrency` rows are started before the oldest result is consumed."""


@dataclass(frozen=True, repr=False)
class Program:
    """A checked program with its LMs by id, ready to run; made by `lmprog.load`. Immutable: `with_*` return changed copies.

    `recompile` returns the plan with an overlay laid over the spec, `resources` holds its prepared modules, tools and
    settings, and `runner` decides where runs are made.
    """

    plan: Plan
    lms: Mapping[str, LM]
    recompile: Callable[[Mapping[str, Any]], Plan] = field(repr=False, compare=False)
    """A function that takes a change (an overlay as plain values) and returns the plan with the change laid over the spec;
    it raises SpecError where a check refuses that."""
    resources: Resources = field(repr=False, compare=False)
    runner: Runner = field(default=HERE, repr=False, compare=False)
    """The place where its runs are made, and those of its judges; no part of the program itself."""

    def __repr__(self) -> str:
        plan = self.plan
        models = ", ".join(f"{id}={lm.model}" for id, lm in plan.lms.items())
        return f"Program({plan.name}: {', '.join(plan.inputs)} -> {', '.join(plan.output_types)}; {models or 'no LM'})"

    def _repr_html_(self) -> str:
        plan = self.plan
        rows = [
            *((f"input {name}", str(field.type)) for name, field in plan.inputs.items()),
            *((f"output {name}", str(kind)) for name, kind in plan.output_types.items()),
            *((f"lm {id}", lm.model) for id, lm in plan.lms.items()),
            *((f"module {id}", module.instructions or "") for id, module in plan.modules.items()),
        ]
        return table(f"Program {plan.name}", rows)

    def __call__(self, **inputs: Any) -> Result:
        """Run the program once on `inputs` and return its Result, from synchronous code; a notebook may call it too.

        `tags` and errors are those of `acall`.
        """
        return run_briefly(lambda: self.acall(**inputs))

    async def acall(self, **inputs: Any) -> Result:
        """Run the program once on `inputs`, in a running event loop, and return its Result; synchronous code calls the program
        itself instead.

        `tags`, as {"session": "s1", "user": "ada"}, stand in the traces of the run; to a program that has an input of that name
        they are the input. Raises UsageError for wrong inputs or tags, RunError where the run failed, and unchanged what
        concerns more than this run, such as BudgetExceeded.
        """
        tags, given = self._of_caller(inputs)
        result = await self.runner.run(self, Job(given, options=self._tagged(RunOptions(tags=tags))))
        if result.error is not None:
            raise RunError(result)
        return result

    async def events(self, **inputs: Any) -> AsyncIterator[Event | Result]:
        """Run the program once and yield its events as they happen (TextPiece, CallEnded), and at the end its Result.

        `tags` are those of `acall`. A run that failed has an `error` in its Result, and raises nothing. Raises, at the
        first iteration, UsageError for wrong inputs or tags, and later unchanged what concerns more than this run, such
        as BudgetExceeded. Leaving the loop cancels the run.
        """
        tags, given = self._of_caller(inputs)

        def begin(tell: Listener) -> Coroutine[Any, Any, Result]:
            options = RunOptions(tags=tags, on_text=tell, on_record=tell)
            return self.runner.run(self, Job(given, options=self._tagged(options)))

        async with aclosing(followed(begin)) as events:
            async for event in events:
                yield event

    def map(self, rows: Any, concurrency: int | None = None) -> list[Result]:
        """Run the program on each row, at most `concurrency` at once (None: as the spec says); return the results in
        the order of the rows.

        `rows` are mappings, a data frame or a data set; columns that are no inputs are ignored. A row that failed, also
        by wrong inputs, has an `error` in its result, and raises nothing. Raises UsageError for rows that are no table
        and a negative `concurrency`, and unchanged what concerns more than one run, such as BudgetExceeded.
        """
        listed = as_list(rows)

        async def collect() -> list[Result]:
            found = []
            with NotebookBar(self.plan.name, len(listed)) as bar:
                async for result in self.stream(listed, concurrency=concurrency):
                    found.append(result)
                    bar.advance()
            return found

        return run_async(collect)

    async def stream(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        concurrency: int | None = None,
        options: RunOptions | None = None,
        numbers: Iterable[int] | None = None,
    ) -> AsyncGenerator[Result, None]:
        """Yield a Result for each row, in the order of the rows, running at most `concurrency` rows at once, in
        constant memory.

        A slow row holds up only the results behind it: further rows are started, up to MAX_LOOKAHEAD (8) times
        `concurrency` at a time. `concurrency` None or 0 is the program's own, `options` None the usual ones. `numbers`
        are the numbers of the rows where they are part of a longer list (None: 0, 1, ...); rows beyond them are not
        run. A row that failed, also by wrong inputs, has an `error` in its result. Raises UsageError for rows that are
        no table and a negative `concurrency`, and unchanged what concerns more than one run, such as BudgetExceeded;
        the runs in progress are then cancelled.
        """
        if concurrency is not None and concurrency < 0:
            raise UsageError(f"at most {concurrency} rows at once is no number of rows: name one, or leave it out")
        window = concurrency or self.concurrency
        tasks: deque[asyncio.Task[Result]] = deque()
        working = 0
        ended = asyncio.Event()

        def on_end(task: asyncio.Task[Result]) -> None:
            nonlocal working
            working -= 1
            ended.set()

        source = zip(numbers if numbers is not None else count(), as_rows(rows), strict=False)
        following = next(source, None)
        try:
            while tasks or following is not None:
                while following is not None and working < window and len(tasks) < MAX_LOOKAHEAD * window:
                    index, row = following
                    task = asyncio.create_task(self.run(self.inputs_of(row), example=index, options=options))
                    task.add_done_callback(on_end)
                    working += 1
                    tasks.append(task)
                    following = next(source, None)
                if tasks[0].done():
                    yield tasks.popleft().result()
                else:
                    ended.clear()
                    await ended.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run(
        self,
        inputs: Mapping[str, Any],
        *,
        example: int | str = 0,
        options: RunOptions | None = None,
        parent: str | None = None,
    ) -> Result:
        """Run the program once on inputs that may be wrong (a failure of the kind `input`); return a Result, which
        holds any failure of the run. What concerns more than this run, such as BudgetExceeded, is raised.

        `example` is the row's number or the request's id, from which seeds are derived, `options` are those of the run
        (None: the usual ones). `parent` is the path of the step or metric that runs this program as a sub-program or
        judge (None: neither); it is kept in the records.
        """
        wrong = self.wrong_inputs(inputs)
        if wrong:
            return Result(None, (), Failure("input", wrong, "inputs"), inputs)
        return await self.runner.run(self, Job(inputs, example, self._tagged(options or AS_IT_IS), parent))

    def _of_caller(self, arguments: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the tags and the inputs among the arguments of a call, the inputs as plain values; no tags where `tags` is an
        input of the program.

        Raises UsageError for wrong tags or inputs.
        """
        inputs = {name: plain(value) for name, value in arguments.items()}
        tags = checked(inputs.pop("tags", None) or {}) if "tags" not in self.plan.inputs else {}
        if wrong := self.wrong_inputs(inputs):
            raise UsageError(wrong)
        return tags, inputs

    def _tagged(self, options: RunOptions) -> RunOptions:
        """Return the options with the program's tags under those of the run, so that a runner elsewhere has them too."""
        tags = self.resources.tags
        return replace(options, tags={**tags, **options.tags}) if tags else options

    async def aclose(self) -> None:
        """Close the open connections of the program's tools, in the running event loop; otherwise they close with the
        loop. A later run opens new ones."""
        await self.resources.connections.aclose()

    def inputs_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of a data row that are inputs of the program, by name; inputs without a column are left
        out, a value of None is not."""
        return {name: row[name] for name in self.plan.inputs if name in row}

    def wrong_inputs(self, inputs: Mapping[str, Any]) -> str | None:
        """Return a sentence that says what is wrong with `inputs`, or None where they fit the program."""
        for name in inputs:
            if name not in self.plan.inputs:
                return f"{self.plan.name} has no input {name!r}; its inputs are {', '.join(self.plan.inputs)}"
        for name, declared in self.plan.inputs.items():
            if name not in inputs:
                if not declared.has_default and mismatch(None, declared.type):
                    return f"the input {name!r} ({declared.type}) is missing"
            elif problem := mismatch(inputs[name], declared.type):
                return f"the input {name!r}: {problem}"
        return None

    @property
    def concurrency(self) -> int:
        """The number of rows to run at once where the caller sets none: 128 if every LM runs in this process (also if
        there is none), else 32 for each worker process of its runner (one, unless runs are distributed)."""
        return 128 if all(lm.runs_here for lm in self.plan.lms.values()) else 32 * self.runner.workers

    def with_candidate(self, candidate: Change) -> Program:
        """Return the program with a candidate's changes (instructions, demos, layouts, adapters, models) laid over its
        spec; LMs are made anew where a model changes.

        Raises SpecError, with the findings, where a check refuses the changed program.
        """
        overlay = candidate.as_overlay()
        plan = self.recompile(overlay)
        remade = self.resources.remade(self.plan.lms, plan.lms)
        return replace(
            self,
            plan=plan,
            lms={**self.lms, **remade} if remade else self.lms,
            resources=replace(self.resources),
            recompile=lambda change: self.recompile(laid_over(overlay, change)),
        )

    def with_budget(self, budget: Budget) -> Program:
        """Return the program with every LM call charged to `budget`, in place of an earlier one, calls of sub-programs
        and judges included."""
        return replace(self, resources=replace(self.resources, budget=budget))

    def with_runner(self, runner: Runner) -> Program:
        """Return the program with its runs, and those of its judges, made by `runner`."""
        return replace(self, runner=runner)

    def with_exporter(self, exporter: Exporter) -> Program:
        """Return the program with one more function that is called with the RunTrace of each run when it has ended,
        judges' runs included; it is not called for dry runs and replays. An exception that it raises comes out of the
        run."""
        return replace(self, resources=replace(self.resources, listeners=(*self.resources.listeners, exporter)))

    def with_tags(self, tags: Mapping[str, str]) -> Program:
        """Return the program with tags (texts by name, as `session` or `user`) that are added to all its runs in traces, and
        replace earlier tags of the same names.

        Raises UsageError for tags that cannot be sent with a trace.
        """
        return replace(self, resources=replace(self.resources, tags={**self.resources.tags, **checked(tags)}))

    def replaying(self, trace: str | Path) -> Program:
        """Return the program with all LMs and tools, also those of sub-programs and judges, answered from a trace file,
        which is read now.

        In a run, a call that the file does not hold raises ReplayMiss (no failure of the run). Raises UsageError for a
        file that is no trace.
        """
        from lmprog.traces.replay import Recording

        recording = Recording(Path(trace))
        lms = {id: recording.lm(declared) for id, declared in self.plan.lms.items()}
        return replace(self, lms=lms, resources=replace(self.resources, recording=recording))

    def faked(self) -> Program:
        """Return the program with fake LMs and tools, for a dry run.

        The LMs answer with made-up values of the declared types. Tools that write, or that are on another machine, are
        replaced by made-up results; others run.
        """
        from lmprog.lms.fake import FakeLM

        return replace(self, lms={id: FakeLM() for id in self.lms}, resources=replace(self.resources, dry_run=True))

    def batched(self, make: Callable[[Declared], LM]) -> Program:
        """Return the program with the calls of a scoring, those of sub-programs and judges included, made through batches, at
        the prices of batches.

        `make` is called with the declaration of each LM behind an API, and returns an LM whose calls wait for batches; models
        in this process answer as usual. Raises what `make` raises, and UsageError for an LM that is an object in place of a
        declared one.
        """
        # Others, as a proposer, answer as usual: a scoring does not ask them.
        asked = {lm.id for lm in bounds(self.plan).asked}
        lms = {id: replace(lm, batch=id in asked and not lm.runs_here) for id, lm in self.plan.lms.items()}
        for id, lm in lms.items():
            if lm.batch and not is_declared(self.lms[id]):
                raise UsageError(
                    f"the LM {id!r} is an object ({type(self.lms[id]).__name__}), whose calls cannot wait for a batch; let "
                    "the program declare it, or leave batches out"
                )

        def made(lm: Declared) -> LM:
            return make_lm(lm) if lm.runs_here else make(replace(lm, batch=True))

        plan = replace(self.plan, lms=lms)
        own = {id: made(lm) if lm.batch else make_lm(lm) for id, lm in lms.items()}
        whole = {id: routed(lms[id], lm, lambda other: own[other.id]) for id, lm in own.items()}
        return replace(self, plan=plan, lms=whole, resources=replace(self.resources, make=made))

    def with_lms(self, lms: Mapping[str, LM]) -> Program:
        """Return the program with some of its LMs replaced, by id; ids that it lacks have no effect. An LM that names a
        replaced one as its fallback still asks the one before."""
        return replace(self, lms={**self.lms, **lms})


def load(
    path: str | Path,
    *,
    lms: Mapping[str, LM | str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    imports: bool = True,
) -> Program:
    """Return the program of the spec at `path`, compiled and with its LMs made.

    `lms` replaces LMs by id: with an object that has `complete`, or the name of another model (None: none). `overrides`
    are values by dotted path of keys, as `--set` (None: none). With `imports` False, for a program that is not trusted,
    no code of the program is imported, also when it runs, and nothing outside of the git checkout (else the folder) of
    the spec is read. Raises SpecError with the findings where the spec is wrong or cannot be read. Raises UsageError
    for an id in `lms` that the program does not have.
    """
    from lmprog.compiler import SpecError, compile_file

    lms = lms or {}
    names = {id: lm for id, lm in lms.items() if isinstance(lm, str)}

    def compiled(change: Mapping[str, Any] | None, data: bool) -> Plan:
        found = compile_file(
            path,
            overrides=overrides or {},
            # A model that the change names is that of a provider's training, and stands above one that was bound before.
            lms={id: name for id, name in names.items() if "model" not in (change or {}).get("lms", {}).get(id, {})},
            change=change,
            imports=imports,
            data=data,
            confined=not imports,
        )
        if found.plan is None:
            raise SpecError(found.findings)
        return found.plan

    return program_of(compiled(None, True), lambda change: compiled(change, False), lms=lms, imports=imports)


def program_of(
    plan: Plan,
    recompile: Callable[[Mapping[str, Any]], Plan],
    *,
    lms: Mapping[str, LM | str] | None = None,
    imports: bool = True,
) -> Program:
    """Return the program of a compiled plan. `recompile` returns the plan with an overlay laid over its spec.

    `lms` replaces LMs by id: with an object that has `complete`, or the name of another model (None: none). With
    `imports` False no code of the program is imported when it runs. Raises UsageError for an id in `lms` that the
    program does not have.
    """
    lms = lms or {}
    unknown = sorted(set(lms) - set(plan.lms))
    if unknown:
        raise UsageError(f"{plan.name} has no LM {unknown[0]!r}; its LMs are {', '.join(plan.lms)}")
    given = {id: lm for id, lm in lms.items() if not isinstance(lm, str)}
    made = {id: given[id] if id in given else make_lm(lm) for id, lm in plan.lms.items()}
    whole = {id: routed(plan.lms[id], lm, lambda other: made[other.id]) for id, lm in made.items()}
    return Program(plan, whole, recompile, Resources(imports=imports))
