"""Rows out of tables of other libraries, by their methods alone; doubles stand for those that are not installed here."""

from __future__ import annotations

import datetime
from typing import Any

import numpy
import pytest

from lmprog.boundary.tables import as_list, as_rows, plain
from lmprog.errors import UsageError


class Frame:
    """A stand-in for a data frame of pandas: `to_dict(orient="records")`, with NaN for what is missing."""

    columns = ("text", "n")

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.columns)

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return list(self.rows)


def test_plain_values_stay_the_same_objects() -> None:
    row = {"a": [1, "x", None, {"b": 2.5}], "c": True}
    assert plain(row) is row


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (numpy.int64(3), 3),
        (numpy.float32(0.5), 0.5),
        (numpy.bool_(True), True),
        (numpy.str_("a"), "a"),
        (numpy.array([[1, 2]]), [[1, 2]]),
        ({"a": (numpy.int8(1), 2)}, {"a": [1, 2]}),
        (datetime.date(2026, 1, 31), "2026-01-31"),
    ],
)
def test_scalars_arrays_and_dates_become_plain(value: Any, made: Any) -> None:
    found = plain(value)
    assert found == made and type(found) is type(made)


def test_frames_and_rows() -> None:
    frame = Frame({"text": "a", "n": numpy.float64(2)}, {"text": "b", "n": float("nan")})
    assert as_list(frame) == [{"text": "a", "n": 2.0}, {"text": "b", "n": None}]
    assert list(as_rows({"a": n} for n in range(2))) == [{"a": 0}, {"a": 1}]


def test_a_frame_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", None], "n": [1, 2], "day": pandas.to_datetime(["2026-01-31", None])})
    first, second = as_list(frame)
    assert first == {"text": "a", "n": 1, "day": "2026-01-31T00:00:00"} and type(first["n"]) is int
    assert second == {"text": None, "n": 2, "day": None}


@pytest.mark.slow
def test_a_frame_of_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    # polars sets it where it is imported, and the process is left as it was found.
    monkeypatch.setenv("_RJEM_MALLOC_CONF", "dirty_decay_ms:500,muzzy_decay_ms:1000")
    polars = pytest.importorskip("polars", reason="needs polars, of the extra `peers`")
    frame = polars.DataFrame({"text": ["a", "b"], "n": [1, None], "day": [datetime.date(2026, 1, 31), None]})
    assert as_list(frame) == [{"text": "a", "n": 1, "day": "2026-01-31"}, {"text": "b", "n": None, "day": None}]


@pytest.mark.slow
def test_a_split_of_datasets() -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra 'train'")
    split = datasets.Dataset.from_dict({"text": ["a", "b"], "n": [3, 4]})
    assert as_list(split) == [{"text": "a", "n": 3}, {"text": "b", "n": 4}]


@pytest.mark.parametrize("table", [{"train": []}, "rows.jsonl", 3, [1, 2], [["a"]]])
def test_what_has_no_rows_is_named(table: Any) -> None:
    with pytest.raises(UsageError, match="row"):
        as_list(table)
