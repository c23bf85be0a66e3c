"""Search: what is found, in which order; the index made once, whole, and safe for several at once; recall on real questions."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lmprog
from lmprog.compiler import RowsError
from lmprog.compiler.plan import HubRows
from lmprog.tools import search
from lmprog.tools.search import index_of

MULTIHOP = (
    Path(os.environ.get("LMPROG_SHARED_DATA", Path(__file__).resolve().parents[5] / "shared" / "data")) / "multihop"
)
ROWS = [
    {"title": "Oslo", "text": "the capital of Norway", "n": 1},
    {"title": "Bergen", "text": "a rainy city of Norway", "n": 2},
    {"title": "Oslo", "text": "Norway and its parliament", "n": 3},
    {"title": "Rome", "text": None, "n": 4},
    {"title": "Twin", "text": "same words", "n": 5},
    {"title": "Other twin", "text": "same words", "n": 6},
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMPROG_CACHE", str(tmp_path / "cache"))
    search._index.cache_clear()
    return tmp_path / "cache" / "search"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_keys_come_best_first_each_once_and_ties_by_position(corpus) -> None:
    index = index_of(corpus, ("title", "text"), "title")
    assert index.search("capital of Norway", 5) == ["Oslo", "Bergen"]
    assert index.search("norway", 2) == ["Oslo", "Bergen"] or index.search("norway", 2) == ["Bergen", "Oslo"]
    assert index.search("same words", 5) == ["Twin", "Other twin"]
    assert index.search("same words", 1) == ["Twin"]
    assert index.search("Rome", 3) == ["Rome"]
    assert index.search("the of", 3) == [] and index.search("", 3) == [] and index.search("zebra", 3) == []


def test_the_key_may_be_a_number_and_the_columns_are_those_named(corpus) -> None:
    index = index_of(corpus, ("text",), "n")
    assert index.search("rainy", 3) == ["2"] and index.search("Bergen", 3) == []


PASSAGES = """
    lmprog: 1
    inputs: {q: str}
    outputs: {found: "${{ steps.find.passages }}", size: "${{ len(steps.find.passages) }}"}
    tools:
      find: {search: {corpus: corpus.jsonl, text: [title, text], columns: COLUMNS}, result: passages}
    steps:
      find: {tool: find, with: {query: "${{ inputs.q }}"}}
"""


def test_several_columns_come_as_objects_of_their_types(write, corpus) -> None:
    """Numbers are texts where no type is said; equal objects come once, and a value of another type fails the call."""
    program = lmprog.load(write(PASSAGES.replace("COLUMNS", "[title, n]")))
    assert program(q="capital of Norway").outputs["found"] == [
        {"title": "Oslo", "n": "1"}, {"title": "Bergen", "n": "2"}, {"title": "Oslo", "n": "3"},
    ]  # fmt: skip
    assert program(q="zebra").outputs == {"found": [], "size": 0}
    program = lmprog.load(write(PASSAGES.replace("COLUMNS", "{n: int, text: str?}")))
    assert program(q="rainy Rome").outputs["found"] == [
        {"n": 4, "text": None},
        {"n": 2, "text": "a rainy city of Norway"},
    ]
    program = lmprog.load(write(PASSAGES.replace("COLUMNS", "[title, text]")))
    assert program(q="same words").outputs["size"] == 2
    error = program.map([{"q": "Rome"}])[0].error
    assert error is not None and error.kind == "tool" and "field text: null is not a value of type str" in error.message
    twins = lmprog.load(write(PASSAGES.replace("COLUMNS", "[text]")))
    assert twins(q="same words").outputs["found"] == [{"text": "same words"}]


def test_csv_and_parquet(tmp_path) -> None:
    (tmp_path / "rows.csv").write_text("title,text\nOslo,capital city\nRome,old city\n")
    assert index_of(tmp_path / "rows.csv", ("text",), "title").search("capital", 3) == ["Oslo"]
    (tmp_path / "versions.csv").write_text("id,text,year\n1.1,first,1990\n1.10,tenth,1990\n")
    found = index_of(tmp_path / "versions.csv", ("text",), ("id", "year"), frozenset({"id", "text"}))
    assert found.search("tenth", 3) == [{"id": "1.10", "year": 1990}]
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.Table.from_pylist([{"title": "Oslo", "text": "capital"}]), tmp_path / "rows.parquet")
    assert index_of(tmp_path / "rows.parquet", ("text",), "title").search("capital", 3) == ["Oslo"]


def test_the_index_is_made_once_for_a_content_and_its_columns(corpus, cache, monkeypatch) -> None:
    made: list[Path] = []
    make = search._make
    monkeypatch.setattr(search, "_make", lambda *given: (made.append(given[-1]), make(*given)))
    for _ in range(2):
        index_of(corpus, ("text",), "title")
        search._index.cache_clear()
    assert len(made) == 1
    index_of(corpus, ("title",), "title")
    corpus.write_text(corpus.read_text() + json.dumps({"title": "Paris", "text": "capital of France"}) + "\n")
    assert "Paris" in index_of(corpus, ("text",), "title").search("France", 3)
    assert len(made) == 3 and len(list(cache.iterdir())) == 3


@pytest.mark.slow
def test_processes_that_start_at_once_leave_one_whole_index(corpus, cache) -> None:
    script = (
        "import sys; from pathlib import Path; from lmprog.tools.search import index_of;"
        "print(index_of(Path(sys.argv[1]), ('text',), 'title').search('capital', 1))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(corpus)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in running] == ["['Oslo']\n"] * 3
    assert len(list(cache.iterdir())) == 1


def test_what_is_wrong_with_a_corpus(tmp_path, corpus, cache) -> None:
    with pytest.raises(RowsError, match=r"row 0 has no column 'body'; it has title, text, n"):
        index_of(corpus, ("body",), "title")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(RowsError, match="holds no rows"):
        index_of(empty, ("text",), "title")
    empty.write_text('{"text": "a"}\n')
    with pytest.raises(RowsError, match="holds no words to search in text"):
        index_of(empty, ("text",), "text")
    assert list(cache.iterdir()) == []


SPEC = """
    lmprog: 1
    inputs: {q: str, k: {type: int, default: 10}}
    outputs: {titles: "${{ steps.find.titles }}"}
    tools:
      find: {search: {corpus: corpus.jsonl, text: TEXT, key: title}, result: titles}
    steps:
      find: {tool: find, with: {query: "${{ inputs.q }}", k: "${{ inputs.k }}"}}
"""


def test_it_is_a_tool(write, corpus) -> None:
    import lmprog

    program = lmprog.load(write(SPEC.replace("TEXT", "[title, text]")))
    results = program.map([{"q": "rainy city"}] * 20)
    assert {tuple(result.outputs["titles"]) for result in results} == {("Bergen",)}
    assert program.map([{"q": "x", "k": 0}])[0].error.message == "find: k must be at least 1, not 0"
    with pytest.raises(lmprog.SpecError, match="names the column `body`"):  # known before it is run
        lmprog.load(write(SPEC.replace("TEXT", "body")))


def test_a_dry_run_searches(write, corpus) -> None:
    import lmprog

    program = lmprog.load(write(SPEC.replace("TEXT", "text"))).faked()
    assert asyncio.run(program.run({"q": "rainy"})).outputs == {"titles": ["Bergen"]}


@pytest.mark.slow
@pytest.mark.skipif(not MULTIHOP.is_dir(), reason="the questions are not on this machine")
def test_recall_on_questions_over_wikipedia() -> None:
    lines = [line for split in ("train", "dev", "test") for line in (MULTIHOP / f"{split}.jsonl").open()]
    questions = [json.loads(line) for line in lines]
    index = index_of(MULTIHOP / "corpus.jsonl", ("title", "text"), "title")
    for k, least in ((5, 0.63), (10, 0.715)):
        found = [
            len(set(index.search(one["question"], k)) & set(one["titles"])) / len(one["titles"]) for one in questions
        ]
        assert sum(found) / len(found) >= least


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_indexed_once(cache, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[object, ...]] = []

    def load_dataset(name: str, config: str | None, split: str) -> list[dict[str, object]]:
        asked.append((name, config, split))
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = HubRows("owner/pages:corpus", "all")
    assert index_of(corpus, ("title", "text"), "title").search("capital", 5) == ["Oslo"]
    search._index.cache_clear()  # as in a process of its own
    assert index_of(corpus, ("title", "text"), "title").search("rainy", 5) == ["Bergen"]
    assert asked == [("owner/pages", "corpus", "all")]
    with pytest.raises(RowsError, match="owner/pages:corpus: row 0 has no column 'body'"):
        index_of(corpus, ("body",), "title")
