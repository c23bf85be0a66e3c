"""The values of the page for one row of a program: findings, graph, form, requests and runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

from lmprog.aio.loops import run_async
from lmprog.compiler import Finding
from lmprog.compiler.bounds import bounds
from lmprog.compiler.trust.private import holds_private
from lmprog.compiler.types.lattice import mismatch
from lmprog.errors import LmprogError, UsageError
from lmprog.lms.fake import placeholder
from lmprog.optimizers.redaction import ShownRows
from lmprog.playground.inputs import InputField, fields_of, with_typed, without_private
from lmprog.playground.rows import RowsReader
from lmprog.playground.runs import Compared, KeptRun, RunOf, Runs, compared
from lmprog.playground.session import Snapshot
from lmprog.reports.page.graph import Graph, graph_of
from lmprog.reports.requests import document, lines
from lmprog.runtime.events import RequestMade
from lmprog.runtime.program import Program
from lmprog.runtime.rendering import rendered
from lmprog.runtime.result import Result

RENDER_SECONDS = 20.0
"""The most seconds that the dry run may take by which requests are made: it calls tools that read."""


@dataclass(frozen=True)
class Asked:
    """The choice on the page: a data split (None: the first), the number of a row from 0, and the texts typed for
    inputs, by name (the others have the row's values)."""

    split: str | None = None
    row: int = 0
    typed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownRequest:
    """An LM request on the page: its step, module, the LM's id (`lm`) and model, and its messages as pairs of a role
    and a text.

    `more` are its other parts as pairs of a heading and a text, and `tokens` is a sentence on its tokens.
    """

    step: str
    module: str
    lm: str
    model: str
    roles: Sequence[tuple[str, str]]
    more: Sequence[tuple[str, str]]
    tokens: str


@dataclass(frozen=True)
class View:
    """The content of the page for one row: `asked` has the split, the row and what was typed, `spec` is the path of the
    file as text, `snapshot` the program as last read. With `show_private` private values are shown too; with
    `only_fakes` real LMs cannot be run. Properties of inputs, requests and costs need a program (`snapshot.program`),
    and raise AssertionError without one."""

    spec: str
    snapshot: Snapshot
    rows: RowsReader
    runs: Runs
    asked: Asked
    only_fakes: bool = False
    show_private: bool = False

    @property
    def program(self) -> Program | None:
        """The last program without errors; None where there was none yet."""
        return self.snapshot.program

    @property
    def name(self) -> str:
        """The program's name; without a program `spec`."""
        return self.program.plan.name if self.program is not None else self.spec

    @property
    def state(self) -> str:
        """The state of the files: `broken` (they hold an error), `warnings` or `good`."""
        if self.snapshot.broken:
            return "broken"
        return "warnings" if self.snapshot.findings else "good"

    @property
    def findings(self) -> list[tuple[Finding, str]]:
        """The findings, errors first, each with the text in Markdown that explains its code (empty where there is none)."""
        ordered = sorted(self.snapshot.findings, key=lambda finding: finding.severity != "error")
        return [(finding, _explained(finding.code)) for finding in ordered]

    @cached_property
    def graph(self) -> Graph | None:
        """The drawing of the program's steps; None without a program, and where it has too many steps (`graph_of`)."""
        return graph_of(self.program.plan) if self.program is not None else None

    # the row

    @property
    def splits(self) -> list[str]:
        """The names of the program's data splits; empty without a program."""
        return list(self.program.plan.data) if self.program is not None else []

    @cached_property
    def split(self) -> str | None:
        """The split of the row: the one asked for, or the first where there is no such split; None without a program or
        data."""
        return self.asked.split if self.asked.split in self.splits else next(iter(self.splits), None)

    @cached_property
    def _rows(self) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """The rows of the split, and the reason why there are none (None: they could be read)."""
        if self.split is None:
            return [], None
        try:
            assert self.program is not None
            return self.rows.rows(self.program.plan, self.split), None
        except LmprogError as error:
            return [], str(error)

    @property
    def count(self) -> int:
        """The number of rows of the split; 0 where it cannot be read, or is still being read."""
        return len(self._rows[0])

    @property
    def row(self) -> int:
        """The number of the row that is shown, from 0; the last one where `asked` names a later one, 0 without rows."""
        return max(0, min(self.asked.row, self.count - 1))

    @property
    def of(self) -> str:
        """A description of the inputs that a run would have: `row 3 of dev`, `row 3 of dev, with another NAME` where
        something was typed, or without rows `typed inputs`."""
        place = f"row {self.row} of {self.split}" if self.count else "typed inputs"
        changed = [name for name in self.asked.typed if self.program is not None and name in self.program.plan.inputs]
        return f"{place}, with another {', '.join(changed)}" if changed and self.count else place

    @cached_property
    def _given(self) -> dict[str, Any]:
        assert self.program is not None
        return self.program.inputs_of(self._rows[0][self.row]) if self.count else {}

    @cached_property
    def inputs(self) -> tuple[dict[str, Any], str | None]:
        """The inputs for a run by name, those of the row with what was typed, and a sentence on what is wrong with
        them, such as a missing one (None: nothing); where a typed text cannot be read they are the row's. The sentence
        does not quote a value that is `hidden`."""
        assert self.program is not None
        try:
            found = with_typed(self.program.plan, self._given, self.asked.typed)
        except UsageError as error:
            return self._given, str(error)
        wrong = self.program.wrong_inputs(found)
        for name in self.hidden - set(self.asked.typed):
            if wrong is not None and wrong.startswith(f"the input {name!r}: "):  # which quotes the value
                wrong = f"the input {name!r}: its value, which is private, is not of type {self.program.plan.inputs[name].type}"
        # What is typed can stand without rows; where something is missing, their absence is the reason.
        return found, wrong and (self._rows[1] or wrong)

    @property
    def missing(self) -> list[str]:
        """The names of the inputs that need a value and have none, for which requests are shown with made-up values."""
        assert self.program is not None
        given = self.inputs[0]
        return [
            name
            for name, declared in self.program.plan.inputs.items()
            if name not in given and not declared.has_default and mismatch(None, declared.type)
        ]

    @property
    def fields(self) -> list[InputField]:
        """The fields of the form, with the row's values, empty where these are `hidden`; what was typed is not in them."""
        assert self.program is not None
        return fields_of(self.program.plan, self._given, self.hidden)

    @cached_property
    def hidden(self) -> frozenset[str]:
        """The names of the inputs whose values are private and not shown; empty with `show_private`."""
        if self.program is None or self.show_private:
            return frozenset()
        plan = self.program.plan
        return frozenset(plan.inputs) - ShownRows(plan).inputs

    @property
    def guarded(self) -> bool:
        """True if a run of real LMs may bring private values into the texts that the page shows, so that they are left
        out; False with `show_private`."""
        return self.program is not None and not self.show_private and holds_private(self.program.plan)

    def run_of(self, real: bool) -> RunOf:
        """Return the inputs for a run of the real LMs (`real`) or of fakes. For fakes the row's values that are
        `hidden` are replaced by made-up ones, so that everything can be shown; typed values stay. Without typed inputs
        they have the row's columns."""
        given = self.inputs[0]
        columns = self._rows[0][self.row] if self.count and not self.asked.typed else None
        return RunOf(given if real else self._open(given), self.row, self.of, columns)

    def _open(self, values: Mapping[str, Any]) -> dict[str, Any]:
        assert self.program is not None
        hidden = self.hidden - set(self.asked.typed)
        return without_private(self.program.plan, values, hidden)

    # the requests

    @cached_property
    def requests(self) -> tuple[list[ShownRequest], str | None]:
        """The LM requests of a dry run on the row, with made-up values for `hidden` and missing inputs, and a sentence
        on why some or all are missing (None: none is)."""
        program = self.program
        assert program is not None
        given = self.inputs[0]
        inputs = {
            **{name: placeholder(name, program.plan.inputs[name].type) for name in self.missing},
            **self._open(given),
        }
        if (wrong := program.wrong_inputs(inputs)) is not None:
            return [], wrong
        try:
            result, made = run_async(lambda: _in_time(program, inputs, self.row))
        except TimeoutError:
            return [], f"rendering took longer than {RENDER_SECONDS:g} seconds: a tool that reads does not end"
        except LmprogError as error:
            return [], str(error)
        except Exception as error:  # code of the program's own, as of a tool, may raise anything
            return [], f"{type(error).__name__}: {error}"
        failed = None if result.error is None else f"the steps after it are not rendered: {result.error}"
        return [_shown(document(one)) for one in made], failed

    @property
    def real(self) -> str:
        """The label of the button that runs the real LMs."""
        assert self.program is not None
        plan = self.program.plan
        may = [] if all(lm.runs_here for lm in plan.lms.values()) else ["may cost"]
        may += [f"writes: {', '.join(tools)}"] if (tools := bounds(plan).writes) else []
        said = f" ({'; '.join(may)})" if may else ""
        return f"Run with the real LMs{said}"

    @property
    def anchors(self) -> dict[str, str]:
        """The anchor on the page of the first request within each top-level step, by the step's id; steps without a request
        have none."""
        found: dict[str, str] = {}
        for made in self.requests[0]:
            found.setdefault(re.split(r"[.\[/]", made.step)[0], f"step-{made.step}")
        return found

    @cached_property
    def cost(self) -> str:
        """A few words on the most calls and the highest price of a run of the real LMs on these inputs."""
        assert self.program is not None
        plan = self.program.plan
        most = bounds(plan, [self.inputs[0]])
        usd = "an unknown price" if most.usd is None else f"${most.usd:.4f}"
        calls = f"{most.total_calls} LM call{'' if most.total_calls == 1 else 's'}"
        known = f"at most {calls}, {usd}" if most.bounded else f"{calls} or more: a list has no bound"
        if all(lm.runs_here for lm in plan.lms.values()):
            known = f"at most {calls}, in this process"
        return known

    # the runs

    @property
    def differences(self) -> list[Compared]:
        """The differences between the last run and the one before it; empty where there are not two."""
        last = self.runs.last
        return compared(last[1], last[0]) if len(last) == 2 else []

    @property
    def last(self) -> list[KeptRun]:
        """The last runs that have ended, two at most, the newest first."""
        return self.runs.last

    @property
    def current(self) -> KeptRun | None:
        """The run in progress; None where there is none."""
        return self.runs.current


async def _in_time(program: Program, inputs: Mapping[str, Any], row: int) -> tuple[Result, list[RequestMade]]:
    """Return the result and the requests of a dry run. Raises TimeoutError where it takes longer than RENDER_SECONDS."""
    async with asyncio.timeout(RENDER_SECONDS):
        return await rendered(program, inputs, row)


def _shown(made: Mapping[str, Any]) -> ShownRequest:
    parts = list(lines(made))
    count = len(made["messages"])
    tokens = f"about {made['tokens']['prompt']:,} tokens"
    return ShownRequest(made["step"], made["module"], made["lm"], made["model"], parts[:count], parts[count:], tokens)


def _explained(code: str) -> str:
    """Return the page in Markdown that explains the findings of a code; empty where there is none."""
    page = files("lmprog.compiler") / "pages" / f"{code}.md"
    return page.read_text(encoding="utf-8") if page.is_file() else ""
