"""Rows of all kinds of files, their cuts, and what is said where they cannot be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmprog.compiler.plan import Split
from lmprog.compiler.rows.files import RowsError, read_file
from lmprog.compiler.rows.reading import read_hub, read_rows, shuffled
from lmprog.compiler.types.lattice import deeper


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
        ("a.jsonl", '{\n "a": 1\n}\n', "a.jsonl:1: .*write each row as one object on one line"),
        ("a.jsonl", '[{"a": 1}]\n', "a row is an object, not list; write each row of the list on a line of its own"),
        ("a.jsonl", '{"a": 1}\n{"a": NaN}\n', "a.jsonl:2: .*NaN is no value of JSON; write null"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', "a.jsonl:1: .*the key 'a' stands twice"),
        ("a.jsonl", '{"a": {"b": 1, "b": 2}}\n', "a.jsonl:1: .*the key 'b' stands twice"),
        ("a.jsonl", '{"a": ' + "[" * 100_000 + "\n", "a.jsonl:1: this line is not JSON"),
        ("a.jsonl", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "} {}\n", "a.jsonl:1: this line is not JSON"),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}\n", "a.jsonl:1: this line is not JSON"),
        ("a.json", "[]", "a.json is no data file that can be read: write one JSON object a line, as jsonl"),
        ("a.csv", "a,b\n1\n", "a.csv:2: this row has 1 fields, and the header 2"),
        ("a.csv", "a,b\n1,2,3\n", "a.csv:2: this row has 3 fields, and the header 2"),
        ("a.csv", "a,b,a\n1,2,3\n", "a.csv:1: the header names the column 'a' twice"),
        ("a.csv", "a,,b\n1,2,3\n", "a.csv:1: column 2 has values and no name"),
        ("a.csv", "a;b\n1;2\n", "a.csv:1: the header is one field that holds ';'"),
        ("a.csv", "a\tb\n1\t2\n", "a.csv:1: the header is one field that holds"),
        ("a.txt", "a\n", "no data file that can be read"),
        ("a.parquet", "not parquet", "cannot read"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(RowsError, match=said):
        read_rows(Split("train", written(tmp_path, name, text)))


@pytest.mark.parametrize(("encoding", "said"), [("utf-16", "UTF-16 text"), ("cp1252", "not UTF-8 text")])
def test_another_encoding_is_said(tmp_path: Path, encoding: str, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\né,ü\n", encoding=encoding)
    with pytest.raises(RowsError, match=f"it is {said}; save it as UTF-8"):
        read_rows(Split("train", path))


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,x\n2,y\n",
        ",a,b\n0,1,x\n1,2,y\n",  # the index of pandas
        "a,b,\n1,x,\n2,y,\n",  # a comma at the end
        "a,b\n1,x,\n2,y,,\n",
        "a,b\n\n1,x\n,\n2,y\n\n",
        "\ufeffa,b\r\n1,x\r\n2,y\r\n",
    ],
)
def test_csv_as_tables_write_it(tmp_path: Path, text: str) -> None:
    assert read_rows(Split("train", written(tmp_path, "a.csv", text))) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_a_field_of_a_csv_file_may_be_a_whole_document(tmp_path: Path) -> None:
    long = "word " * 100_000
    assert read_rows(Split("train", written(tmp_path, "a.csv", f"a,b\n{long},1\n"))) == [{"a": long, "b": 1}]


def test_digits_in_a_column_that_is_declared_as_text_stay_text(tmp_path: Path, write) -> None:
    import lmprog
    from lmprog.scoring.data import rows_of

    written(tmp_path, "a.csv", "zip,label,n,text_in_file\n12,1,5,7\n13,2,6,8\n")
    spec = write(
        """
        lmprog: 1
        inputs: {zip: str, text: "str?", n: int}
        lms: {lm: {model: openai/none}}
        modules:
          ask: {lm: lm, inputs: {zip: str, text: "str?", n: int}, outputs: {label: {type: {enum: ["1", "2"]}}}}
        data: {test: {path: a.csv, columns: {text: text_in_file}}}
        """
    )
    assert rows_of(lmprog.load(spec).plan, "test") == [
        {"zip": "12", "label": "1", "n": 5, "text": "7"},
        {"zip": "13", "label": "2", "n": 6, "text": "8"},
    ]


def test_numbers_of_a_table_that_are_none_are_null(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    values = [float("nan"), float("inf"), 1.5]
    table = pyarrow.table({"a": values, "b": [[value] for value in values], "__index_level_0__": [1, 2, 3]})
    about = {"index_columns": ["__index_level_0__"]}
    parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(about)}), path)
    assert read_rows(Split("train", path)) == [{"a": None, "b": [None]}] * 2 + [{"a": 1.5, "b": [1.5]}]


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


@pytest.mark.parametrize("depth", [90, 149, 150, 900, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a\\"]}": ', "}")])
def test_what_is_nested_too_deep_costs_its_own_value_alone(
    tmp_path: Path, depth: int, opening: str, closing: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"a": "[{", "b": ' + opening * depth + "1" + closing * depth + ', "c": [1]}\n{"a": "x"}\n', encoding="utf-8"
    )
    first, second = read_file(path)
    assert (first["a"], first["c"], second) == ("[{", [1], {"a": "x"})
    assert deeper(first["b"]) == (depth > 100)
    inner = first["b"]
    while isinstance(inner, list | dict):
        (inner,) = inner if isinstance(inner, list) else inner.values()
    assert inner == (1 if depth < 150 else "(nested too deep to be read)")


def test_whole_numbers_of_a_csv_file_stay_exact(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id,share\n1234567890123456789,1\n12345678901234567891234,0.5\n")
    assert list(read_file(tmp_path / "ids.csv")) == [
        {"id": 1234567890123456789, "share": 1.0}, {"id": 12345678901234567891234, "share": 0.5},
    ]  # fmt: skip


def test_a_row_of_the_hub_that_cannot_be_read_is_an_error_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, config: str | None, split: str) -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise OSError("a picture is torn")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    rows = read_hub("owner/name", "train")
    assert next(rows) == {"a": 1}
    with pytest.raises(RowsError, match="cannot read hf: owner/name: a picture is torn"):
        next(rows)


def test_a_column_with_a_number_beyond_all_floats_stays_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1e999\n2\n")
    assert list(read_file(tmp_path / "a.csv")) == [{"n": "1e999"}, {"n": "2"}]
