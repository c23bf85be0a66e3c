"""Acceptance of the stages' result in place of the program as written: paired tests on the confirming dev rows.

`accept: composition` tests the program after the last stage against the first, and where it fails steps back through
the stages to the latest that passes. `accept: stage` tests each stage against the program that it started from.
`accept: point` tests nothing.

A program that is no better is kept in at most ALPHA of all runs, however many tests there are. Stepping back is the
fallback procedure (B. Wiens, "A fixed sequence Bonferroni procedure for testing multiple endpoints", Pharmaceutical
Statistics 2, 2003): each hypothesis has its share of ALPHA, set beforehand, and the first that is rejected ends the
search. The bound holds under any dependence of the tests, by Bonferroni's inequality. The program after the last
stage gets FIRST of ALPHA, since a run with a gain mostly shows it there, and the steps back share the rest. With
`accept: stage` the stages have equal shares; the program that a stage starts from then depends on the tests before
it, and the bound is exact where no stage is better (weak control).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.evaluation import Values, on_both
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.optimizer import Row
from lmprog.optimizers.staged.split_scores import SplitScores
from lmprog.optimizers.strategies import outages
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.scoring.statistics import estimate, gain_p, paired
from lmprog.seeds import derive

ALPHA = 0.025
"""The most runs that keep a program which is no better, as a share: one side of a 95% interval."""
FIRST = 0.8
"""The share of ALPHA for the program after the last stage, where there are others to step back to."""


@dataclass(frozen=True)
class GainTest:
    """A test on the confirming dev rows: the program after stage `number` against the program after `against` (0: as
    written), at the one-sided significance `level` (0 to 1).

    `n` is the number of rows, `before`, `after` and `difference` are means with intervals (None: not scored), `p` is
    the one-sided p value (None: not tested), and `lost` says why outages make the test void (None: they do not).
    """

    number: int
    """Number of the stage."""
    against: int
    level: float
    n: int = 0
    """Rows compared."""
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    """The mean of each and its interval."""
    difference: Mapping[str, Any] | None = None
    p: float | None = None
    """The one-sided p value; None where outages void the test."""
    lost: str | None = None
    """The reason why the test is void."""

    @property
    def passed(self) -> bool:
        """True where the p value is at most the level of the test; False without a p value, as of a void test."""
        return self.p is not None and self.p <= self.level

    def as_json(self) -> dict[str, Any]:
        """Return the test as a dictionary by field name, with `p` as `p_one_sided` and with `passed`; `from_json` makes
        the test from it again."""
        return {
            "number": self.number,
            "against": self.against,
            "n": self.n,
            "before": self.before,
            "after": self.after,
            "difference": self.difference,
            "p_one_sided": self.p,
            "level": self.level,
            "passed": self.passed,
            "lost": self.lost,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> GainTest:
        """Return the test from a dictionary that `as_json` wrote."""
        fields = {name: value for name, value in values.items() if name not in ("passed", "p_one_sided")}
        return GainTest(**fields, p=values["p_one_sided"])


def levels(count: int) -> list[float]:
    """Return the one-sided significance levels (0 to 1) of the `count` tests of `accept: composition`, in the order in
    which versions are tested: from the last stage back.

    Together they are ALPHA (0.025): a single test has all of it, of several the first has the share FIRST (0.8) and the
    others equal parts of the rest. Empty where `count` is 0.
    """
    if count < 2:
        return [ALPHA] * count
    return [FIRST * ALPHA] + [(1 - FIRST) * ALPHA / (count - 1)] * (count - 1)


def first_level(rule: str, stages: int) -> float:
    """Return the one-sided significance level (0 to 1) of the first test, for `stages` stages (1 or more) that can
    change something and the rule `accept`: of `stage` an equal part of ALPHA (0.025) for each stage, else the first of
    `levels`."""
    return ALPHA / stages if rule == "stage" else levels(stages)[0]


class Confirmation:
    """The tests of versions of a program against each other on the confirming dev rows (`rows`); each version is scored once
    even if the run is resumed, but where outages left too few rows.

    `program` is the program as written; its calls are not charged to the budget of the search. Each row is run `repeats`
    times and counts with its mean. `scoring` runs the rows.
    """

    def __init__(
        self,
        program: Program,
        rows: Sequence[Row],
        metric: str,
        journal: Journal,
        seed: int,
        repeats: int,
        scoring: SplitScores,
    ) -> None:
        self.scoring = scoring
        self.program, self.rows, self.metric, self.journal = program, rows, metric, journal
        self.repeats, self.seed = repeats, derive(seed, "confirm")

    def test(self, versions: Sequence[Candidate], number: int, against: int, level: float) -> GainTest:
        """Test on the confirming dev rows whether version `number` of the program scores higher than version `against`.

        `versions[0]` is the program as written, `versions[n]` that after stage n. Versions that were not scored before are run
        now. `level` is the one-sided significance level. The result is also written to the journal. Where outages left too
        few rows of either with a score, return a test that is void (`lost`), with a note in the journal. Raises ProviderError
        where they left none.
        """
        before, after = self._values(versions[against]), self._values(versions[number])
        lost = self._lost(before, "the program before") or self._lost(after, f"the program after stage {number}")
        if lost is not None:
            self.journal.note(lost)
            return GainTest(number, against, level, lost=lost)
        pairs = on_both(before, after)
        first, then = (estimate(values).as_json() for values in pairs)
        gain = paired(*pairs).as_json()
        found = GainTest(number, against, level, len(pairs[0]), first, then, gain, gain_p(*pairs))
        self.journal.record("confirmed", **found.as_json())
        return found

    def latest(self, versions: Sequence[Candidate]) -> tuple[int, list[GainTest]]:
        """Return the number of the latest of `versions` that passes its test against the program as written (0, the program as
        written, if none), and the tests made: from the last version back to the first that passes, at the levels of
        `levels`.

        Equal versions count as one, with the number of the first of them.
        """
        first: dict[str, int] = {}
        for number, version in enumerate(versions):
            first.setdefault(version.digest, number)
        steps = sorted((number for number in first.values() if number), reverse=True)
        made: list[GainTest] = []
        for number, level in zip(steps, levels(len(steps)), strict=True):
            made.append(self.test(versions, number, 0, level))
            if made[-1].passed:
                return number, made
        return 0, made

    def _lost(self, values: Values, whose: str) -> str | None:
        if not outages.too_many(len(values), len(self.rows)):
            return None
        return outages.complaint(f"{whose}, on the rows that confirm,", len(values), len(self.rows))

    def _values(self, candidate: Candidate) -> Values:
        key = f"confirm/{candidate.digest}"
        kept: Values | None = self.journal.recall(key)
        if kept is None:
            self.journal.tell("confirming", rows=len(self.rows))
            program, options = self.program.with_candidate(candidate), RunOptions(seed=self.seed)
            scores = self.scoring.of(program, self.rows, self.metric, repeats=self.repeats, options=options)
            _ = scores.estimate  # raises where nothing could be scored
            kept = {str(row): value for row, value in scores.by_row.items()}
            # A score that an outage has cut is no score: a resumed run makes it again.
            if not outages.too_many(len(kept), len(self.rows)):
                self.journal.keep(key, kept)
        return kept
