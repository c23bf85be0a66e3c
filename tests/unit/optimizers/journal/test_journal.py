"""The journal survives being cut anywhere, and keeps stages apart; candidates are laid over each other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.journal.files import Journal
from lmprog.spending.budget import Budget


def test_once_does_work_once_in_the_life_of_a_run(tmp_path: Path) -> None:
    done = []

    async def work() -> int:
        done.append(1)
        return 7

    for _ in range(2):
        journal = Journal(tmp_path)
        assert asyncio.run(journal.once("k", work)) == 7
        assert asyncio.run(journal.within("2-grpo", Budget({})).once("k", work)) == 7
        journal.close()
    assert len(done) == 2
    assert (tmp_path / "2-grpo").is_dir()


def test_a_note_is_kept_once_in_each_stage_and_told_once_by_each_process(tmp_path: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        journal = Journal(tmp_path, (lambda event: told.append(event["text"]),))
        for where in (journal, journal.within("1-gepa", Budget({}))):
            where.note("nothing to combine")
            where.note("nothing to combine")
        journal.close()
    assert told == ["nothing to combine"] * 4
    assert [event.get("stage") for event in Journal(tmp_path).events] == [None, "1-gepa"]


@given(st.data())
def test_a_journal_cut_at_any_byte_is_a_beginning_of_itself(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder)
    for number in range(4):
        journal.keep(f"k{number}", {"é": "x" * number})
    journal.close()
    path = folder / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    again = Journal(folder)
    assert again.events == journal.events[: len(again.events)]
    again.keep("more", 1)
    again.close()
    assert Journal(folder).recall("more") == 1


def test_listeners_hear_what_is_told_and_what_is_kept(tmp_path: Path) -> None:
    heard: list[str] = []
    journal = Journal(tmp_path, (lambda event: heard.append(event["event"]),))
    journal.tell("progress")
    journal.record("step", step=1)
    assert heard == ["progress", "step"]
    assert [event["event"] for event in journal.events] == ["step"]


def test_a_step_that_is_done_again_is_shown_and_not_kept_twice(tmp_path: Path) -> None:
    heard: list[int] = []
    for life in range(2):
        journal = Journal(tmp_path, (lambda event: heard.append(event["step"]),))
        for stage in ("1-grpo", "2-grpo"):
            within = journal.within(stage, Budget({}))
            for step in range(1, 3 + life):
                within.record_step("step", step, loss=0.5)
        journal.close()
    kept = [(event["stage"], event["step"]) for event in Journal(tmp_path).events]
    assert sorted(kept) == [(stage, step) for stage in ("1-grpo", "2-grpo") for step in (1, 2, 3)]
    assert heard == [1, 2, 1, 2, 1, 2, 3, 1, 2, 3]


def test_candidates_are_laid_over_each_other_and_read_back() -> None:
    first = Candidate({"a": "x"}, {"a": [{"q": 1}]})
    later = Candidate({"b": "y"}, {"a": []}, {"lm": {"path": "p"}})
    both = first.then(later)
    assert both.as_overlay() == {
        "modules": {"a": {"instructions": "x"} | {"demos": []}, "b": {"instructions": "y"}},
        "lms": {"lm": {"adapter": {"path": "p"}}},
    }
    assert Candidate.from_json(both.as_json()).digest == both.digest != first.digest
    assert Candidate().as_overlay() == {}
