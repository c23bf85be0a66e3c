"""What is kept of an optimization: the split of dev, the tests on the rows that confirm, and outages."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy
import pytest

import lmprog
from lmprog.compiler.bounds import FEWEST_CHOOSING, FEWEST_CONFIRMING, dev_split
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.evaluation import CandidateEvaluator, Scored
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.staged.acceptance import ALPHA, Confirmation, levels
from lmprog.scoring.power import least_gain, power
from lmprog.scoring.statistics import Estimate, gain_p

GOOD = Candidate({"judge": "Divide by two."})
BAD = Candidate({"judge": "Guess."})
OTHER = Candidate({"judge": "Look."})


@pytest.mark.parametrize("rows", range(0, 400, 7))
def test_the_rows_that_confirm_are_half_or_enough_or_none(rows: int) -> None:
    choosing, confirming = dev_split(rows)
    assert choosing + confirming == rows
    assert confirming == 0 or (confirming >= FEWEST_CONFIRMING and choosing >= FEWEST_CHOOSING)
    assert confirming == 0 or confirming == max(FEWEST_CONFIRMING, rows // 2)
    assert (confirming == 0) == (rows < FEWEST_CHOOSING + FEWEST_CONFIRMING)
    assert dev_split(rows, "point") == (rows, 0)


@pytest.mark.parametrize("count", range(1, 8))
def test_the_levels_of_all_looks_add_up_to_one(count: int) -> None:
    assert sum(levels(count)) == pytest.approx(ALPHA)
    assert levels(count)[0] >= 0.8 * ALPHA and min(levels(count)) > 0


@pytest.mark.parametrize("rows", [20, 48, 72, 150])
def test_the_test_keeps_its_level(rows: int) -> None:
    assert all(power(rows, 0.0, ALPHA, changing) <= 0.027 for changing in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7))


def test_mid_p_is_that_of_the_exact_test_less_half_of_what_was_found() -> None:
    before, after = [0.0] * 5 + [1.0] * 10, [1.0] * 15
    assert gain_p(before, after) == pytest.approx(0.5**5 / 2)
    assert gain_p(after, before) == pytest.approx(1 - 0.5**5 / 2)
    assert gain_p(before, before) == 1.0
    # What differs by rounding is no change.
    assert gain_p([0.1 + 0.2] * 20, [0.3] * 20) == 1.0
    # Graded changes, of few rows, against all orders of their signs.
    changes = [0.3, 0.25, -0.1, 0.2, 0.15, 0.05, -0.02, 0.4]
    signs = numpy.array(numpy.meshgrid(*[[-1, 1]] * len(changes))).reshape(len(changes), -1)
    sums, found = numpy.abs(changes) @ signs, sum(changes)
    exact = (sums > found + 1e-9).mean() + (abs(sums - found) < 1e-9).mean() / 2
    assert gain_p([0.0] * 8, changes) == pytest.approx(exact, abs=0.01)


def test_power_is_that_of_simulated_tests() -> None:
    draw = numpy.random.default_rng(0)
    for rows, gain in ((20, 0.2), (48, 0.2), (72, 0.1)):
        found = 0
        for _ in range(150):
            change = draw.choice([1.0, -1.0, 0.0], rows, p=[(0.3 + gain) / 2, (0.3 - gain) / 2, 0.7])
            found += gain_p([0.0] * rows, list(change)) <= ALPHA
        assert found / 150 == pytest.approx(power(rows, gain, ALPHA), abs=0.12)
    assert power(48, 0.0, ALPHA) < 0.03
    assert power(48, least_gain(48, ALPHA) or 0, ALPHA) >= 0.8 > power(48, (least_gain(48, ALPHA) or 0) - 0.01, ALPHA)
    assert least_gain(3, ALPHA) is None


class Drawn(Confirmation):
    """Versions whose scores are drawn in place of being run: right with a probability for each version."""

    def __init__(self, journal: Journal, versions: dict[str, float], rows: int, seed: int) -> None:
        self.journal, self.rows, self.versions = journal, [{}] * rows, versions
        self.draw = random.Random(seed)
        self.found: dict[str, dict[str, float]] = {}

    def _values(self, candidate: Candidate) -> dict[str, float]:
        if candidate.digest not in self.found:
            right = self.versions[candidate.digest]
            values = {str(row): float(self.draw.random() < right) for row in range(len(self.rows))}
            self.found[candidate.digest] = values
        return self.found[candidate.digest]


class Silent(Journal):
    def __init__(self) -> None:
        self.told: list[str] = []

    def record(self, event: str, **values: object) -> None:
        pass

    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize("rows", [20, 72])
@pytest.mark.parametrize("stages", [1, 3])
def test_few_runs_without_a_gain_keep_a_change(rows: int, stages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmprog.optimizers.staged import acceptance

    for name in ("paired", "estimate"):  # the intervals decide nothing here, and take the most time
        monkeypatch.setattr(acceptance, name, lambda *values: Estimate(0.0, (0.0, 0.0), 0))
    versions = [START, BAD, OTHER, GOOD][: stages + 1]
    chances = {version.digest: 0.5 for version in versions}
    kept = sum(Drawn(Silent(), chances, rows, seed).latest(versions)[0] > 0 for seed in range(300))
    # A test at 5%, or three looks at 2.5% each, would keep some 16 to 20.
    assert kept <= 14


def test_the_latest_that_passes_is_kept() -> None:
    chances = {START.digest: 0.2, GOOD.digest: 0.9, BAD.digest: 0.0}
    number, tests = Drawn(Silent(), chances, 72, 0).latest([START, GOOD, BAD])
    assert number == 1 and [(test.number, test.passed) for test in tests] == [(2, False), (1, True)]
    number, tests = Drawn(Silent(), chances, 72, 0).latest([START, BAD, GOOD])
    assert number == 2 and len(tests) == 1
    # A stage that changed nothing is no further look.
    number, tests = Drawn(Silent(), chances, 72, 0).latest([START, GOOD, GOOD])
    assert number == 1 and [test.level for test in tests] == [ALPHA]
    assert Drawn(Silent(), chances, 72, 0).latest([START, START]) == (0, [])


def test_outages_void_a_test() -> None:
    confirmation = Drawn(Silent(), {START.digest: 0.0, GOOD.digest: 1.0}, 40, 0)
    for lost, kept in ((2, 1), (3, 0)):
        for _ in range(2):
            values = confirmation._values(GOOD)
        confirmation.found[GOOD.digest] = {row: 1.0 for row in list(values)[lost:]}
        assert confirmation.latest([START, GOOD])[0] == kept
        confirmation.found.clear()
    assert "3 of 40 dev rows" in confirmation.journal.told[0]


@pytest.mark.parametrize(("lost", "chosen"), [(1, True), (2, False)])
@pytest.mark.parametrize("side", ["start", "candidate"])
def test_nothing_is_chosen_by_rows_that_outages_left(parity, task_of, lost: int, chosen: bool, side: str) -> None:
    import asyncio

    program, _ = parity()
    notes = []
    task = task_of(program, listeners=[lambda event: notes.append(event.get("text", ""))])
    evaluator = CandidateEvaluator(task, task.dev + task.dev)  # 30 rows
    for candidate, value in ((START, 0.0), (GOOD, 1.0)):
        cut = lost if (candidate == START) == (side == "start") else 0
        values = {str(row): value for row in range(cut, 30)}
        evaluator.scored[candidate.digest] = Scored(candidate, values, 30)
    assert asyncio.run(evaluator.select(4)) == (GOOD if chosen else START)
    assert any("outages left 2 of 30 dev rows" in note for note in notes) == (not chosen)


def optimized(spec: Path, folder: Path, **how):
    from tests.unit.optimizers.conftest import Scripted

    script = Scripted()
    return lmprog.optimize(
        spec, lms={"judge": script, "writer": script}, run_dir=folder, out=folder / "out.yaml", **how
    ).report


INSTRUCTED = (
    "  tune: {judge: [instructions, demos]}\n",
    "  tune: {judge: [instructions]}\n  instructions: {judge: [Divide by two., Guess.]}\n",
)


@pytest.mark.parametrize("rule", ["composition", "stage", "point"])
def test_the_report_has_the_path(write_spec, tmp_path: Path, rule: str) -> None:
    spec = write_spec(INSTRUCTED, ("  metric: accuracy\n", f"  metric: accuracy\n  accept: {rule}\n"))
    report = optimized(spec, tmp_path / "run")
    accepted = report["accepted"]
    sizes = (30, 0) if rule == "point" else (10, 20)
    assert (accepted["rule"], accepted["choose"], accepted["confirm"], accepted["kept"]) == (rule, *sizes, 1)
    assert len(accepted["tests"]) == (rule != "point")
    assert all(test["passed"] and test["n"] == 20 and test["after"]["mean"] == 1.0 for test in accepted["tests"])
    (stage,) = report["stages"]
    assert stage["validate"]["mean"] == 1.0 and stage["gain"]["mean"] > 0.2 and report["best_estimate"] is None
    assert ("untested" in accepted["verdict"]) == (rule == "point")
    assert "accepted:" in (tmp_path / "run" / "out.yaml").read_text()


def test_too_few_dev_rows_confirm_nothing_and_the_best_estimate_is_put_aside(write_spec, tmp_path: Path) -> None:
    spec = write_spec(INSTRUCTED)
    rows = (tmp_path / "dev.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "dev.jsonl").write_text("".join(rows[:18]))
    told = []
    report = optimized(spec, tmp_path / "run", listen=told.append)
    assert report["accepted"]["kept"] == 0 and report["accepted"]["tests"] == []
    assert any("give at least 30 rows" in event.get("text", "") for event in told)
    assert "instructions" not in (tmp_path / "run" / "out.yaml").read_text()
    assert "Divide by two." in Path(report["best_estimate"]).read_text()
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
