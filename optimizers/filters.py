"""Filters that reject a candidate before it is run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from lmprog.compiler.findings.finding import SpecError
from lmprog.compiler.plan import Plan
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.optimizer import Row, Task
from lmprog.runtime.program import Program

WORDS = 6
"""Words in a row that two texts on one subject hardly share by chance."""
LETTERS = 16
"""A dev value of fewer words counts whole, from this number of characters on: a name or a number that stands nowhere else."""


class Filter(Protocol):
    """The interface of a filter, which may reject a candidate before it is run."""

    def reject_reason(self, candidate: Candidate) -> str | None:
        """Return in a sentence why the candidate must not be run; None where it may."""
        ...


class Checks:
    """A filter that rejects what the compiler refuses as a change to `program`: words that do not fit the context,
    demos of the wrong type, and so on; warnings reject nothing. The reason is the text of the findings.
    """

    def __init__(self, program: Program) -> None:
        self.program = program

    def reject_reason(self, candidate: Candidate) -> str | None:
        try:
            self.program.with_candidate(candidate)
        except SpecError as error:
            return "\n".join(str(finding) for finding in error.findings if finding.severity == "error")
        return None


class Leaks:
    """A filter that rejects instructions which quote one of the rows `dev`: at least WORDS (6) words of one value in
    succession, or a whole shorter value of LETTERS (16) characters or more, whatever the case and punctuation. Demos
    and layouts are not looked at.

    Words that also stand in the train rows or in the program are no leak. A proposer is shown no dev row, but its model
    may have learnt the data.
    """

    def __init__(self, plan: Plan, train: Sequence[Row], dev: Sequence[Row]) -> None:
        self._plan, self._train, self._dev = plan, train, dev

    @cached_property
    def _pieces(self) -> dict[str, int]:
        """The texts that would give a dev row away, each with the index of the row."""
        found: dict[str, int] = {}
        for index, row in enumerate(self._dev):
            for piece in _pieces(row):
                found.setdefault(piece, index)
        lengths = {piece.count(" ") + 1 for piece in found}
        for text in (text for source in (_written(self._plan), self._train) for text in _texts(source)):
            for piece in _runs(text, lengths):
                found.pop(piece, None)
        return found

    def reject_reason(self, candidate: Candidate) -> str | None:
        lengths = {piece.count(" ") + 1 for piece in self._pieces} if candidate.instructions else set()
        for module, text in candidate.instructions.items():
            for piece in _runs(text, lengths):
                if piece in self._pieces:
                    return f"the instructions of {module!r} hold words of dev row {self._pieces[piece]}: {piece!r}"
        return None


class Filters:
    """The filters that every optimizer of texts uses: leaks of the task's `screened` rows (or dev rows, where there are none)
    first, which cost less, then the compiler's checks. The reason is that of the first filter that rejects."""

    def __init__(self, task: Task) -> None:
        self._filters: tuple[Filter, ...] = (
            Leaks(task.program.plan, task.train, task.screened or task.dev),
            Checks(task.program),
        )

    def reject_reason(self, candidate: Candidate) -> str | None:
        return next((why for each in self._filters if (why := each.reject_reason(candidate)) is not None), None)


def _pieces(row: Row) -> Iterator[str]:
    for text in _texts(row):
        words = _words(text)
        if len(words) >= WORDS:
            yield from _runs(text, {WORDS})
        elif len(" ".join(words)) >= LETTERS:
            yield " ".join(words)


def _runs(text: str, lengths: Iterable[int]) -> Iterator[str]:
    """Yield all sequences of consecutive words of the text, for each of `lengths` words, in small letters and with one blank
    between words."""
    words = _words(text)
    for length in sorted(lengths):
        yield from (" ".join(words[place : place + length]) for place in range(len(words) - length + 1))


def _written(plan: Plan) -> list[Any]:
    """Return the texts of the program's author."""
    found: list[Any] = [plan.description or "", plan.vars]
    if plan.optimize is not None:
        found.append(plan.optimize.instructions)
    for module in plan.modules.values():
        layout = module.layout
        found += [module.instructions or "", module.demos]
        found += [template.text for template in (layout.system, layout.user, layout.assistant) if template is not None]
        for name, field in (*module.inputs.items(), *module.outputs.items()):
            found += [name, field.about or "", str(field.type)]
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def _words(text: str) -> list[str]:
    """Return the words of a text in small letters and without punctuation, so that case, quotes and line breaks hide
    nothing."""
    return re.findall(r"\w+", text.casefold())
