"""Which runs of a row are learnt from, and what they teach."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lmprog.optimizers.grpo.sampling.rollouts import Rollout
from lmprog.optimizers.sft.replies import TrainingReply, best_of
from lmprog.optimizers.strategies.best_runs import best_runs
from lmprog.traces.record import Invocation


@pytest.mark.parametrize(
    ("scores", "at_least", "expected"),
    [
        ([0.2, 0.7, 0.7], "best", [1, 2]),
        ([0.0, 0.0], "best", []),  # the metric's lowest value is good for nothing
        ([], "best", []),
        ([0.2, 0.7, 1.0], 0.5, [2, 1]),
        ([0.2, 0.4], 0.5, []),
        ([0.0, 0.0], 0.0, [0, 1]),
    ],
)
def test_runs_are_kept_by_a_score_or_as_the_best_of_their_row(scores, at_least, expected) -> None:
    assert best_runs(scores, at_least, 0.0) == expected


def said(reply: int, module: str = "say", call: int = 0, **more) -> Invocation:
    fields = {"program": "p", "path": module, "example": 0, "rollout": 0, "inputs": {}, "messages": (), "text": "x"}
    ids = {"prompt_token_ids": (1, 2), "token_ids": (reply,)}
    return Invocation(module=module, call=call, outputs={}, **fields, **{**ids, **more})


def run(example: int, reward: float, *made: Invocation, **more) -> Rollout:
    return Rollout(example, 0, reward, made, **more)


def replies(*runs: Rollout, keep: int = 4, at_least="best") -> list[int]:
    return [
        reply.token_ids[0] for reply in best_of(runs, frozenset({"say"}), at_least, keep, 0.0, TrainingReply.of).replies
    ]


def test_of_runs_that_teach_the_same_one_is_learnt() -> None:
    assert replies(run(0, 1.0, said(5)), run(0, 1.0, said(5)), run(0, 1.0, said(6)), run(0, 0.5, said(7))) == [5, 6]


def test_no_more_than_keep_runs_of_a_row_are_learnt_and_the_best_first() -> None:
    runs = [run(0, 0.6, said(5)), run(0, 0.9, said(6)), run(0, 0.8, said(7)), run(1, 0.7, said(8))]
    assert replies(*runs, keep=2, at_least=0.5) == [6, 7, 8]


def test_every_call_of_a_kept_run_is_learnt_and_of_retries_the_last() -> None:
    assert replies(run(0, 1.0, said(5), said(6, attempt=1), said(7, call=1))) == [6, 7]


def test_calls_of_other_modules_and_of_sub_programs_are_not_learnt() -> None:
    assert replies(run(0, 1.0, said(5, module="other"), said(6, parent="inner"), said(7, token_ids=None))) == []


def test_a_failed_run_teaches_nothing_whatever_it_scores() -> None:
    assert replies(run(0, 1.0, said(5), failure="unreadable"), run(0, 0.4, said(6))) == [6]


def test_rows_without_a_good_run_are_counted() -> None:
    found = best_of([run(0, 1.0, said(5)), run(1, 0.0, said(6))], frozenset({"say"}), "best", 4, 0.0, TrainingReply.of)
    assert (found.rows, found.taught) == (2, 1)


def test_a_reply_is_read_back_from_the_journal_as_it_was() -> None:
    learnt = TrainingReply.of(replace(said(5), constrained=True))
    assert TrainingReply.from_json(learnt.as_json()) == learnt
