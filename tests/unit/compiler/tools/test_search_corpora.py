"""The findings on the rows of a corpus that is searched."""

from __future__ import annotations

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.rows.files import row_place
from lmprog.compiler.tools import declared

SPEC = """
    lmprog: 1
    tools: {notes: {search: {corpus: docs.jsonl, text: [title], WHAT}}}
    steps: {s: {tool: notes, with: {query: x}}}
    outputs: {o: "${{ steps.s.result }}"}
"""
GOOD = '{"id": "a", "title": "A"}\n\n{"id": "b", "title": "A"}\n'


@pytest.mark.parametrize(
    ("more", "what", "severity", "said"),
    [
        ("", "columns: [id, title]", None, ""),
        ('{"id": "a", "title": "C"}\n', "columns: [id, title]", "warning", "row 2 has the id of row 0: \"a\" (docs.jsonl:4)"),
        ('{"id": "a", "title": "C"}\n', "key: title", None, ""),  # passages of one title may be several
        ('{"title": "C"}\n', "columns: [id, title]", "error", "row 2 has no column `id` (docs.jsonl:4)"),
        ('{"id": "c"}\n', "key: id", "error", "row 2 has no column `title` (docs.jsonl:4)"),
        ('{"id": "c"\n', "key: id", "error", "docs.jsonl:4: this line is not JSON"),
    ],
)  # fmt: skip
def test_each_row_of_a_small_corpus_is_looked_at(
    write, monkeypatch, more: str, what: str, severity: str | None, said: str
) -> None:
    write(GOOD + more, "docs.jsonl")
    spec = write(SPEC.replace("WHAT", what))
    found = compile_file(spec).findings
    assert [(each.code, each.severity) for each in found] == ([("LMP601", severity)] if severity else [])
    assert not found or (said in found[0].message and "tool `notes`" in found[0].message)
    monkeypatch.setattr(declared, "CHECKED_BYTES", 10)
    assert compile_file(spec).findings == ()  # of a large one the first row alone


@pytest.mark.parametrize(
    ("name", "text", "index", "place"),
    [
        ("a.jsonl", "\n{}\n\n{}\n", 1, " (a.jsonl:4)"),
        ("a.jsonl", "{}\n", 1, ""),
        ("a.ndjson", "{}\n\n{}\n", 1, " (a.ndjson:3)"),
        ("a.csv", 'a,b\n1,2\n\n"3\n4",5\n', 0, " (a.csv:2)"),
        ("a.csv", 'a,b\n1,2\n\n3,5\n', 1, " (a.csv:4)"),
        ("a.tsv", "a\tb\n1\t2\n", 0, " (a.tsv:2)"),
        ("a.parquet", "", 0, ""),
        ("absent.jsonl", None, 0, ""),
    ],
)  # fmt: skip
def test_the_place_of_a_row_in_its_file(tmp_path, name: str, text: str | None, index: int, place: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert row_place(tmp_path / name, index) == place


def test_ids_that_are_written_as_numbers_stay_texts(write) -> None:
    write("id,title,year\n1.1,A,1990\n1.10,B,1990\n", "docs.csv")
    spec = SPEC.replace("docs.jsonl", "docs.csv").replace("WHAT", "columns: {id: str, year: int}")
    assert compile_file(write(spec)).findings == ()
