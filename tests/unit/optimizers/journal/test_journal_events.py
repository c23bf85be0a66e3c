"""A journal is read whatever its lines hold; each kind of event is checked as it is written and read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.errors import UsageError
from lmprog.optimizers.journal.events import KINDS, problem, read_journal
from lmprog.optimizers.journal.files import Journal
from lmprog.state.json_lines import PassedOver

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {"event": st.sampled_from([*KINDS, "mine"]) | JSON},
    optional={
        name: st.sampled_from(["stage/1-gepa", "1-gepa/candidate/ab", "test/cd", "spent", "k"]) | JSON
        for name in ("key", "value", "stage", "number", "of", "name", "step", "score", "paid", "candidate", "findings")
    },
)


@pytest.mark.slow
@given(st.lists(EVENTS, max_size=6))
def test_a_journal_of_any_events_is_read_by_all_its_readers(tmp_path_factory: pytest.TempPathFactory, events) -> None:
    from lmprog.optimizers.journal.lineage import read_trees
    from lmprog.reports.page.run_report import read

    folder = tmp_path_factory.mktemp("run")
    path = folder / "journal.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    for reader in (read_journal, Journal, read_trees, read):
        with contextlib.suppress(UsageError):
            reader(path if reader is read_journal else folder)  # type: ignore[operator]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": 3},
        {"event": "note"},
        {"event": "note", "text": ["x"]},
        {"event": "step", "step": "1"},
        {"event": "step", "step": True},
        {"event": "dev", "step": 1, "score": {"mean": 0.5}},
        {"event": "finished", "key": "k"},
        {"event": "finished", "key": "stage/1-gepa", "value": 3},
        {"event": "finished", "key": "1-gepa/candidate/ab", "value": {"words": {}}},
        {"event": "finished", "key": "k", "value": 1, "paid": {"spent": {}}},
        {"event": "note", "text": "x", "stage": 3},
    ],
)
def test_an_event_without_what_its_kind_holds_is_no_event(tmp_path: Path, event) -> None:
    assert problem(event) is not None
    path, passed_over = tmp_path / "journal.jsonl", PassedOver()
    path.write_text(json.dumps({"event": "mine", "x": 1}) + "\n" + json.dumps(event) + "\n")
    assert read_journal(path, passed_over) == [{"event": "mine", "x": 1}]
    assert passed_over.faults == {"of no known form": 1}


def test_what_is_not_of_its_kind_is_not_recorded(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(TypeError, match="the event 'step' cannot be recorded: step is missing"):
        journal.record("step", number=1)
    journal.record("note", text="half \ud800 pair")
    journal.close()
    assert [event["text"] for event in Journal(tmp_path).events] == ["half \ud800 pair"]


def test_equal_events_are_two_and_a_line_that_stands_twice_is_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(2):
        journal.record("compared", what="w", difference={"mean": 0.0}, verdict="v")
    journal.close()
    path = tmp_path / "journal.jsonl"
    assert len(read_journal(path)) == 2
    path.write_bytes(path.read_bytes() * 2)
    again = Journal(tmp_path)
    assert len(again.events) == 2 and again.passed_over.faults == {"duplicated": 2}
    told: list[str] = []
    again._listeners = (lambda event: told.append(event["text"]),)
    again.begin()
    assert told == [
        f"{path}: 2 lines could not be read and are left out: 3, 4 (2 duplicated); what they held is done again"
    ]
