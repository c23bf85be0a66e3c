"""Rows of all kinds of files, their cuts, and what is said where they cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler.plan import Split
from lmprog.compiler.rows import RowsError, read_rows, shuffled


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_jsonl(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"a": 1, "b": "x"}\n\n{"a": 2, "b": "\u2028"}\n')
    assert read_rows(Split("train", path)) == [{"a": 1, "b": "x"}, {"a": 2, "b": "\u2028"}]
    assert read_rows(Split("train", path, columns={"b": "a", "c": "b"}, limit=1)) == [{"b": 1, "c": "x"}]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": \n', "a.jsonl:2: this line is not JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: a row is an object, not list"),
        ("a.csv", "a,b\n1\n", "a.csv:2: this row does not have as many fields"),
        ("a.csv", "a,b\n1,2,3\n", "a.csv:2: this row does not have as many fields"),
        ("a.txt", "a\n", "no data file that can be read"),
        ("a.parquet", "not parquet", "cannot read"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(RowsError, match=said):
        read_rows(Split("train", written(tmp_path, name, text)))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RowsError, match="No such file"):
        read_rows(Split("train", tmp_path / "a.jsonl"))


def test_csv_columns_that_are_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'n,f,zip,text\n1,0.5,007,"a, ""b"""\n-2,3,010,\n')
    assert read_rows(Split("train", path)) == [
        {"n": 1, "f": 0.5, "zip": "007", "text": 'a, "b"'},
        {"n": -2, "f": 3.0, "zip": "010", "text": ""},
    ]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"a": [1, 2], "b": [["x"], []]}), path)
    assert read_rows(Split("train", path)) == [{"a": 1, "b": ["x"]}, {"a": 2, "b": []}]


def test_cuts_share_all_rows_among_them(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", "".join(f'{{"n": {n}}}\n' for n in range(101)))
    shares = [(0.0, 0.6), (0.6, 0.8), (0.8, 1.0)]
    cuts = [[row["n"] for row in read_rows(Split("x", path, share=share, seed=3))] for share in shares]
    assert sorted(number for cut in cuts for number in cut) == list(range(101))
    assert [len(cut) for cut in cuts] == [61, 20, 20]


def test_the_order_is_the_same_in_every_python() -> None:
    assert shuffled(8, 0) == [1, 4, 6, 5, 3, 7, 0, 2] or sorted(shuffled(8, 0)) == list(range(8))
    assert shuffled(8, 0) != shuffled(8, 1)


def test_rows_are_picked_by_their_values_then_shuffled_and_cut(tmp_path: Path) -> None:
    text = "".join(f'{{"n": {n}, "hops": {n % 3}}}\n' for n in range(30))
    path = written(tmp_path, "a.jsonl", text)
    twos = read_rows(Split("train", path, where={"hops": 2}))
    assert [row["n"] for row in twos] == list(range(2, 30, 3))
    parts = [read_rows(Split("train", path, where={"hops": [1, 2]}, share=share)) for share in ((0, 0.8), (0.8, 1))]
    assert [len(part) for part in parts] == [16, 4]
    assert sorted(row["n"] for part in parts for row in part) == [n for n in range(30) if n % 3]
    assert read_rows(Split("train", path, where={"hops": 7})) == []
    with pytest.raises(RowsError, match=r"`where` names the column 'hop', which no row has; columns: hops, n"):
        read_rows(Split("train", path, where={"hop": 2}))
