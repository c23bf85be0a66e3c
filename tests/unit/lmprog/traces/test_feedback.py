"""Feedback on runs: what fits, where it is kept, and that later feedback replaces earlier."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from lmprog.compiler.types.lattice import INT, STR, Enum, ListOf, Optional
from lmprog.state.json_lines import PassedOver
from lmprog.state.ownership import WriterLocked, exclusive_writer
from lmprog.traces import feedback
from lmprog.traces.feedback import WrongFeedback, beside, checked, find_run, keep, read_feedback, types_in
from lmprog.traces.files import TraceWriter
from lmprog.traces.run_record import RunRecord

TYPES = {"label": Enum(("billing", "refund")), "count": INT, "tags": ListOf(STR), "note": Optional(STR)}


@pytest.mark.parametrize(
    ("given", "path", "said"),
    [
        ({}, "feedback", "it is empty; say a score, a comment or a correction"),
        ({"scores": 1}, "scores", "did you mean `score`?"),
        ({"score": 5}, "score", "5 is no number from 0 (wrong) to 1 (right)"),
        ({"score": True}, "score", "True is no number"),
        ({"score": float("nan")}, "score", "nan is no number"),
        ({"score": "1"}, "score", "'1' is no number"),
        ({"comment": " "}, "comment", "leave it out"),
        ({"comment": "a" * 10_001}, "comment", "10,001 characters; say it in at most 10,000"),
        ({"comment": ["a"]}, "comment", "is no text"),
        ({"correction": {}}, "correction", "write the outputs that were wrong"),
        ({"correction": "refund"}, "correction", "is no object of the program's outputs"),
        ({"correction": {"lable": "refund"}}, "correction.lable", "did you mean `label`?"),
        ({"correction": {"label": "other"}}, "correction.label", '"other" is not one of billing, refund'),
        ({"correction": {"count": 1.5}}, "correction.count", "1.5 is not a value of type int"),
        ({"correction": {"tags": ["a", 1]}}, "correction.tags", "item 1: 1 is not a value of type str"),
    ],
)
def test_what_does_not_fit_is_refused_with_place_and_fix(given: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(WrongFeedback) as found:
        checked(given, TYPES)
    assert found.value.path == path and said in found.value.message


@pytest.mark.parametrize(
    "given",
    [{"score": 0}, {"score": 0.5, "comment": "é\n"}, {"correction": {"note": None, "tags": []}}, {"score": None}],
)
def test_what_fits_is_kept_as_it_is(given: dict[str, Any]) -> None:
    assert checked(given, TYPES) == given


def test_later_feedback_replaces_parts_and_null_takes_them_back(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    assert read_feedback(trace) == {}
    keep(trace, [("a", {"score": 0, "comment": "no"}), ("b", {"score": 1})])
    beside(trace).write_bytes(beside(trace).read_bytes() + b'{"run": "c", "sc')
    keep(trace, [("a", {"score": 1, "correction": {"label": "refund"}}), ("b", {"score": None})])
    assert read_feedback(trace) == {"a": {"score": 1, "comment": "no", "correction": {"label": "refund"}}}
    assert beside(trace).stat().st_mode & 0o777 == 0o600


def test_a_full_disk_and_another_writer_leave_the_file_as_it_was(tmp_path: Path, monkeypatch) -> None:
    trace = tmp_path / "trace.jsonl"
    keep(trace, [("a", {"score": 1})])
    whole = beside(trace).read_bytes()
    opened = feedback.open_private

    class Full:
        """A file on a disk that takes ten more bytes."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.file, self.left = opened(*arguments, **options), 10

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *exception: object) -> None:
            self.file.close()

        def write(self, lines: bytes) -> int:
            if not self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken, self.left = self.left, 0
            return int(self.file.write(lines[:taken]))

    monkeypatch.setattr(feedback, "open_private", Full)
    with pytest.raises(OSError, match="No space"):
        keep(trace, [("b", {"score": 1})])
    monkeypatch.setattr(feedback, "open_private", opened)
    monkeypatch.setattr(feedback, "LOCK_TIMEOUT", 0.05)
    with exclusive_writer(beside(trace)), pytest.raises(WriterLocked, match="is being written by process"):
        keep(trace, [("b", {"score": 1})])
    assert beside(trace).read_bytes() == whole


def test_a_run_is_found_by_its_id_alone(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    assert find_run(trace, "a") is None
    made = {name: RunRecord(program="p", digest="d", example=name, rollout=0, inputs={"x": "bbbb"}) for name in "ab"}
    with TraceWriter(trace) as writer:
        writer.write(made.values())
    found = find_run(trace, "a")
    assert found is not None and found["example"] == "a"
    assert find_run(trace, "bbbb") is None and find_run(trace, "") is None


def test_feedback_stands_beside_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    trace, link = tmp_path / "days" / "monday.jsonl", tmp_path / "today.jsonl"
    trace.touch()
    link.symlink_to(trace)
    keep(link, [("a", {"score": 1})])
    assert read_feedback(link) == read_feedback(trace) == {"a": {"score": 1}}


def test_a_line_of_another_form_is_passed_over(tmp_path: Path) -> None:
    trace, passed_over = tmp_path / "trace.jsonl", PassedOver()
    wrong = ['"score": "high"', '"score": 2', '"comment": 1', '"correction": "refund"']
    lines = [f'{{"run": "a", {part}}}' for part in (*wrong, '"score": 0.5')]
    beside(trace).write_text("\n".join(lines) + "\n")
    assert read_feedback(trace, passed_over) == {"a": {"score": 0.5}}
    assert passed_over.numbers == [1, 2, 3, 4]


def test_types_of_another_form_are_none() -> None:
    assert types_in({"types": ["label"]}) == types_in({"types": None}) == types_in({}) == {}
