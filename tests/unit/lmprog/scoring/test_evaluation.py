"""Scores over rows: means, repeats, failures apart from low scores, comparisons."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lmprog
from lmprog import Completion, LmprogError, ProviderError, UsageError, evaluate
from lmprog.compiler.spec_tests import GateTest
from lmprog.reports.scores import Evaluation, document, lines
from lmprog.runtime.options import RunOptions
from lmprog.runtime.result import Result
from lmprog.scoring.evaluation import RowScore, Scores, aevaluate, scored_by
from lmprog.scoring.metrics import scorers_of
from lmprog.scoring.testing import Outcome, outcomes

SPEC = """
    inputs: {text: str}
    outputs: {number: "${{ steps.ask.number }}"}
    modules:
      ask: {lm: lm, inputs: {text: str}, outputs: {number: int}}
    steps:
      ask: {module: ask, with: {text: "${{ inputs.text }}"}}
    data: {dev: dev.jsonl}
    metrics:
      exact: {python: "./metrics.py:exact", with: {number: "${{ outputs.number }}", wanted: "${{ row.wanted }}"}}
"""
HERE = """
    import threading, lmprog
    def exact(number, wanted):
        return lmprog.Score(1, str(threading.get_ident()))
"""
ROWS = [{"text": str(index), "wanted": index % 2} for index in range(6)]


def said(request: Any) -> str:
    return str(request.messages[-1]["content"])


@pytest.fixture
def counting(program, scripted, write):
    """A program whose LM answers a row's text as `answers` has it, else 1."""

    def make(answers: dict[str, Any] | None = None, lm: Any = None) -> lmprog.Program:
        write('{"text": "0", "wanted": 0}\n', "dev.jsonl")
        files = {"metrics__py": "def exact(number, wanted):\n    return number == wanted\n"}
        return program(SPEC, lm or scripted(lambda request: (answers or {}).get(said(request), "1")), **files)

    return make


def test_the_mean_and_its_interval(counting) -> None:
    scores = evaluate(counting(), ROWS, "exact")
    assert (scores.mean, scores.estimate.n, scores.errors, scores.unreadable) == (0.5, 6, [], 0)
    assert scores.ci95 == pytest.approx((0.1876, 0.8124), abs=1e-4)
    assert scores.by_row == {0: 0.0, 1: 1.0, 2: 0.0, 3: 1.0, 4: 0.0, 5: 1.0}


def test_an_unreadable_reply_scores_lowest_and_is_counted(counting) -> None:
    scores = evaluate(counting({"1": "one"}), ROWS, "exact")
    assert (scores.by_row[1], scores.unreadable, scores.errors) == (0.0, 1, [])
    assert scores.mean == pytest.approx(2 / 6)


def test_a_provider_failure_is_not_scored(counting) -> None:
    scores = evaluate(counting({"1": ProviderError("down")}), ROWS, "exact")
    assert 1 not in scores.by_row
    assert [(row.row, row.cause, row.kind) for row in scores.errors] == [(1, "ask: down", "provider")]
    assert scores.mean == pytest.approx(2 / 5)


def test_runs_that_an_on_error_answered_are_scored_and_counted(program, scripted, write) -> None:
    write('{"text": "0", "wanted": 0}\n', "dev.jsonl")
    spec = SPEC.replace(
        'with: {text: "${{ inputs.text }}"}', 'with: {text: "${{ inputs.text }}"}, on_error: {number: 0}'
    )
    answers = {"1": ProviderError("down"), "2": "none", "4": "none either"}
    files = {"metrics__py": "def exact(number, wanted):\n    return number == wanted\n"}
    made = program(spec, scripted(lambda request: answers.get(said(request), "1")), **files)
    scores = evaluate(made, ROWS, "exact")
    assert (scores.failures, scores.errors, scores.by_row[1], scores.by_row[2]) == ({}, [], 0.0, 1.0)
    assert [each.as_json() for each in scores.recovered] == [
        {"step": "ask", "kind": "provider", "count": 1, "first": "row 1: ask: down"},
        {"step": "ask", "kind": "unreadable", "count": 2, "first": scores.recovered[1].first},
    ]
    assert str(scores.recovered[0]) == (
        "1 run: step `ask` failed (provider) and was answered by its `on_error`: row 1: ask: down"
    )
    assert scores.recovered[1].first.startswith("row 2: ask: number: ")
    assert scores.rows[1].as_json()["recovered"] == [{"step": "ask", "kind": "provider", "error": "ask: down"}]
    assert "recovered" not in scores.rows[0].as_json()
    shown = Evaluation(made, Path("p.yaml"), "dev", ROWS, 6, scores)
    assert [line.strip() for line in lines(shown) if "on_error" in line] == list(map(str, scores.recovered))
    assert document(shown)["recovered"] == [each.as_json() for each in scores.recovered]


def test_nothing_could_be_scored(counting) -> None:
    everything = {row["text"]: ProviderError("down") for row in ROWS}
    with pytest.raises(ProviderError, match="no row could be scored: ask: down"):
        _ = evaluate(counting(everything), ROWS, "exact").mean
    with pytest.raises(
        LmprogError, match=r"no row could be scored: inputs: the input 'text' \(str\) is missing"
    ) as caught:
        _ = evaluate(counting(), [{"wanted": 1}], "exact").mean
    assert caught.value.exit_status == 1
    with pytest.raises(UsageError, match="there are no rows"):
        _ = evaluate(counting(), [], "exact").mean


def test_repeats_have_seeds_of_their_own_and_are_one_row(counting, scripted) -> None:
    lm = scripted(lambda request: "1" if request.key[1] else "0")
    seen: list[RowScore] = []
    scores = evaluate(counting(lm=lm), ROWS[:2], "exact", repeats=2, on_row=seen.append)
    assert [(row.row, row.repeat, row.value) for row in scores.rows] == [
        (0, 0, 1.0),
        (0, 1, 0.0),
        (1, 0, 0.0),
        (1, 1, 1.0),
    ]
    assert scores.by_row == {0: 0.5, 1: 0.5}
    assert scores.estimate.n == 2
    assert len({request.seed for request in lm.requests}) == 4
    assert len(seen) == 4


def test_within_a_loop(counting) -> None:
    assert asyncio.run(aevaluate(counting(), ROWS, "exact")).mean == 0.5


def test_a_comparison_is_over_the_rows_that_both_could_score(counting) -> None:
    before = evaluate(counting({"0": ProviderError("down")}), ROWS, "exact")
    after = evaluate(counting({"2": "0", "4": "0", "5": ProviderError("down")}), ROWS, "exact")
    difference = after.against(before)
    assert difference.n == 4
    assert difference.mean == pytest.approx(2 / 4)
    assert before.against(after).mean == pytest.approx(-2 / 4)


def test_no_row_in_common() -> None:
    one = Scores("m", [RowScore(0, 0, 1.0, Result({}, ()))])
    other = Scores("m", [RowScore(1, 0, 1.0, Result({}, ()))])
    with pytest.raises(ProviderError, match="no row was scored in both"):
        one.against(other)


def test_a_judge_without_an_answer_is_no_score(counting, monkeypatch) -> None:
    async def down(*arguments: Any) -> None:
        raise ProviderError("the judge is down")

    monkeypatch.setattr("lmprog.scoring.metrics.Scorer._value", down)
    scores = evaluate(counting(), ROWS[:1], "exact")
    assert [(row.kind, row.cause) for row in scores.errors] == [("provider", "the judge 'exact': the judge is down")]


def test_a_metric_that_fails_on_a_row_scores_lowest_and_is_counted(counting, write) -> None:
    program = counting()
    write("def exact(number, wanted):\n    return 1 / wanted\n", "metrics.py")
    scores = evaluate(program, ROWS[:3], "exact")
    assert scores.by_row == {0: 0.0, 1: 1.0, 2: 0.0}
    cause = "row 0: the metric 'exact' raised ZeroDivisionError: division by zero (metrics.py:2)"
    assert (scores.causes, scores.failures) == ({}, {"metric": (2, cause)})


def test_a_slow_metric_holds_up_no_call_and_runs_alone(counting, write, scripted, monkeypatch) -> None:
    # While the metric is at work on a row, the call of the next row is made.
    meeting = ModuleType("meeting_of_call_and_metric")
    meeting.calls = threading.Semaphore(0)
    monkeypatch.setitem(sys.modules, meeting.__name__, meeting)

    def answer(request: Any) -> str:
        meeting.calls.release()
        return "1"

    program = counting(lm=scripted(answer))
    write(
        f"""
        import threading
        from {meeting.__name__} import calls
        seen = []

        def exact(number, wanted):
            seen.append(threading.get_ident())
            next_began = len(seen) == {len(ROWS)} or calls.acquire(timeout=60)
            return next_began and len(set(seen)) == 1
        """,
        "metrics.py",
    )
    meeting.calls.acquire(blocking=False)
    scores = evaluate(program, ROWS, "exact", concurrency=1)
    assert scores.mean == 1.0


def test_what_names_no_metric_and_no_number_of_rows_is_refused(counting) -> None:
    program = counting()
    for how, said in (({"metric": []}, "name a metric"), ({"limit": -1}, "`limit`"), ({"concurrency": -1}, "at once")):
        with pytest.raises(UsageError, match=said):
            evaluate(program, ROWS, **{"metric": "exact", **how})
    assert not program.lms["lm"].requests


def test_a_repeated_run_keeps_the_calls_before_it_by_every_metric_and_in_a_gate(program, scripted, write) -> None:
    write('{"text": "0", "wanted": 0}\n', "dev.jsonl")
    replies = [ProviderError("down"), "0"] * 2
    same = SPEC.rstrip().splitlines()[-1].replace("exact: ", "same: ")
    made = program(
        f"{SPEC.rstrip()}\n{same}\n",
        scripted(lambda request: replies.pop(0)),
        metrics__py="def exact(number, wanted):\n    return number == wanted\n",
    )
    scores = evaluate(made, ROWS[:1], ["exact", "same"])
    assert [each.usage.lm_calls for each in scores.values()] == [2, 2]

    async def run() -> list[Outcome]:
        return [outcome async for outcome in outcomes(made, Path("a.yaml"), [GateTest("gate", "dev", "exact", 0.0)])]

    assert [len(outcome.records) for outcome in asyncio.run(run())] == [2]


def test_a_gate_whose_metric_is_broken_keeps_its_calls(program, scripted, write) -> None:
    write('{"text": "0", "wanted": 0}\n', "dev.jsonl")
    made = program(
        SPEC,
        scripted(lambda request: "0"),
        metrics__py="def exact(number, wanted):\n    raise ValueError('broken')\n",
    )

    async def run() -> list[Outcome]:
        return [outcome async for outcome in outcomes(made, Path("a.yaml"), [GateTest("gate", "dev", "exact", 0.0)])]

    (outcome,) = asyncio.run(run())
    assert (outcome.status, len(outcome.records)) == ("failed", 1) and "broken" in outcome.message


def test_no_run_goes_on_where_the_callback_raises(counting) -> None:
    class Waiting:
        async def complete(self, request: Any) -> Completion:
            if said(request) not in ("0", "1"):
                await asyncio.Event().wait()
            return Completion(text="0")

    def stop(row: RowScore) -> None:
        raise KeyError("stop")

    async def run() -> set[Any]:
        with pytest.raises(KeyError, match="stop"):
            await aevaluate(counting(lm=Waiting()), ROWS, "exact", on_row=stop, concurrency=2)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(run()) == set()


def test_metrics_of_one_evaluation_share_a_thread(program, write) -> None:
    write('{"text": "0", "wanted": 0}\n', "dev.jsonl")
    exact = SPEC.rstrip().splitlines()[-1]
    made = program(f"{SPEC.rstrip()}\n{exact.replace('exact: ', 'same: ')}\n", metrics__py=HERE)
    result = Result({"number": 0}, ())

    async def run() -> set[int]:
        scored = await scored_by(scorers_of(made, ["exact", "same"]), ROWS[0], result, 0, RunOptions())
        return {int(each.feedback or 0) for each in (scored, *scored.others.values())}

    assert len(asyncio.run(run())) == 1


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [(None, None, "outages ended its runs"), (None, "provider", "it failed (provider)"), (0.0, "input", "(input)")],
)
def test_saved_scores_without_a_reason_say_why_none_could_be_scored(
    value: float | None, kind: str | None, said: str
) -> None:
    with pytest.raises(LmprogError, match=re.escape(said)) as raised:
        _ = Scores.of_values("exact", [(0, value)], [kind]).mean
    assert "None" not in str(raised.value)
