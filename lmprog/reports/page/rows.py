"""The test rows of an optimization: each version's answers, and the rows whose score changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from lmprog.blame import is_outage
from lmprog.scoring.statistics import Difference, Estimate, estimate, paired

Outcome = Literal["better", "worse", "back"]
"""The change of a row's score from the first version to the last; `back`: it changed in between and is as it was."""


@dataclass(frozen=True)
class Version:
    """A version of the program (`name`: `as written`, or `+ STAGE`) with its mean score on the choosing dev rows
    (`dev`, None: not scored), and by test row its scores (`values`, None: an outage), the answers to the first rows
    (`answers`) and the kinds of failure (`kinds`, None: it did not fail); these three are empty where the test rows
    were not scored.
    """

    name: str
    dev: Estimate | None
    values: Sequence[float | None] = ()
    answers: Sequence[Mapping[str, Any]] = ()
    """The answers to the first test rows, as far as the journal keeps them: `outputs` by name, `error`, `feedback`."""
    kinds: Sequence[str | None] = ()
    """The kind of failure of each test row, None where it did not fail."""

    @cached_property
    def test(self) -> Estimate | None:
        """The mean score on the test rows without outages; None where none was scored."""
        scored = [value for value in self.values if value is not None]
        return estimate(scored) if scored else None

    @property
    def failures(self) -> list[str]:
        """The number of test rows that failed, a text for each kind: `3 failed (tool)`, or `2 left out (provider)` for
        outages."""
        counts = Counter(kind for kind in self.kinds if kind is not None)
        return [f"{count} {'left out' if is_outage(kind) else 'failed'} ({kind})" for kind, count in counts.items()]

    def gain(self, before: Version) -> Difference | None:
        """Return the paired gain over the version `before`, on the test rows that both could score; None where
        there are none.
        """
        both = [
            (old, new)
            for old, new in zip(before.values, self.values, strict=False)
            if old is not None and new is not None
        ]
        return paired([old for old, _ in both], [new for _, new in both]) if both else None

    def answer(self, row: int) -> Mapping[str, Any]:
        """Return the version's answer to a test row (`outputs`, `error`, `feedback`) by the row's number from 0; empty
        where none was kept."""
        return self.answers[row] if row < len(self.answers) else {}


@dataclass(frozen=True)
class ChangedRow:
    """A test row whose score differs between versions of the program: its number from 0, its inputs as text by name
    (empty where they are not kept), and all versions that were scored on the test rows.

    `way` says how the score changed from the first version to the last: `better`, `worse`, or `back` to what it was.
    """

    number: int
    way: Outcome
    inputs: Mapping[str, str]
    versions: Sequence[Version]

    @property
    def before(self) -> float | None:
        """The row's score of the first version, the program as written; never None in the rows of `changed_rows`."""
        return self.versions[0].values[self.number]

    @property
    def after(self) -> float | None:
        """The row's score of the last version; never None in the rows of `changed_rows`."""
        return self.versions[-1].values[self.number]


def changed_rows(versions: Sequence[Version], inputs: Sequence[Mapping[str, str]]) -> list[ChangedRow]:
    """Return the test rows whose score differs between the versions that were scored on them, in the order of the split,
    without rows that an outage left out for some version.

    `inputs` are those of each test row, as text; they may be fewer than the rows.
    """
    tested = [version for version in versions if version.values]
    found = []
    for number in range(min((len(version.values) for version in tested), default=0)):
        values = [value for version in tested if (value := version.values[number]) is not None]
        if len(values) < len(tested) or len(set(values)) == 1:
            continue
        first, last = values[0], values[-1]
        way: Outcome = "better" if last > first else "worse" if last < first else "back"
        found.append(ChangedRow(number, way, inputs[number] if number < len(inputs) else {}, tested))
    return found
