"""Full-text search (BM25) over a file of rows, as a tool that returns the keys of the best rows, or some of their columns.

The index is made once for a file's content and columns, kept in the user's cache under their digest, and read from there as a
memory map. That of a data set on the hub is kept under its name and split: what changes there is not seen. An index is written
beside and renamed, so that two processes that start at once leave one whole index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from lmprog.aio.threads import awaited_whole, in_thread
from lmprog.compiler.plan import HubRows, Tool
from lmprog.compiler.rows.files import Row, RowsError, as_column, corpus_texts, read_file, row_place
from lmprog.compiler.rows.reading import read_hub
from lmprog.compiler.types.lattice import ListOf, Object
from lmprog.compiler.yaml.whole_file import whole_file, whole_folder
from lmprog.extras import require
from lmprog.state.cache_folder import cache_root
from lmprog.tools.results import checked
from lmprog.tools.tool import ToolFailed, failed

LAYOUT = 2
"""The number of the form in which `_make` writes an index, by which its folder is named too: raise it when that changes."""
STOPWORDS = "en"
"""The list of English words that are in every text, which are not searched for. Words are not stemmed: on questions over
Wikipedia that finds as much.
"""

_making = Lock()


Returned = str | tuple[str, ...]
"""The columns of a row that are returned: one (the key), or several, of which each row gives an object."""


class Index:
    """The BM25 index of one corpus, read from its folder as a memory map; it may be searched from several threads."""

    def __init__(self, folder: Path) -> None:
        import bm25s
        import numpy as np

        self._scorer = bm25s.BM25.load(folder, mmap=True)
        self._entries = np.memmap(folder / "entries.jsonl", dtype=np.uint8, mode="r")
        self._ends = np.load(folder / "ends.npy", mmap_mode="r")

    def _entry(self, position: int) -> str:
        """Return the stored entry of the row at a position of the corpus, as JSON: its key, or an object of its columns."""
        start = int(self._ends[position - 1]) if position else 0
        return bytes(self._entries[start : int(self._ends[position])]).decode()

    def search(self, query: str, k: int) -> list[Any]:
        """Return the keys (texts) or the columns (mappings) of the k best rows, best first; equal ones come
        once, and further rows fill up the k.

        There are fewer where fewer rows share a word with the query; none do with a query of stop words alone. Rows of
        equal score come in the order of the corpus.
        """
        import bm25s
        import numpy as np

        (words,) = bm25s.tokenize(query, stopwords=STOPWORDS, return_ids=False, show_progress=False)
        ids = self._scorer.get_tokens_ids(words)
        if not ids:
            return []
        scores = self._scorer.get_scores_from_ids(ids)
        found: dict[str, None] = {}
        wanted = k
        while True:
            # Rows of one page share a key, so that more rows than keys may be needed. Entries are read for the best alone.
            least = np.partition(scores, -wanted)[-wanted] if wanted < len(scores) else 0.0
            (among,) = np.nonzero((scores >= least) & (scores > 0.0))
            for position in among[np.lexsort((among, -scores[among]))]:
                found.setdefault(self._entry(int(position)))
            if len(found) >= k or wanted >= len(scores):
                return [json.loads(entry) for entry in list(found)[:k]]
            wanted *= 2


def search_tool(tool: Tool) -> Callable[..., Awaitable[list[Any]]]:
    """Return an async function of `query` and `k` that gives the keys of the `k` best rows of the tool's corpus, as texts,
    best first.

    With `columns` it gives an object for each row. Raises MissingExtra where bm25s is not installed; the function raises
    ToolFailed where `k` is below 1, the corpus cannot be read, or a column holds another type than it is declared to have.
    """
    require(("bm25s",), f"the tool {tool.id!r}")
    corpus, text = tool.settings["corpus"], tuple(tool.settings["text"])
    columns = tool.settings.get("columns")
    returned: Returned = tool.settings["key"] if columns is None else tuple(columns)
    kinds = dict(tool.type.item.fields) if isinstance(tool.type, ListOf) and isinstance(tool.type.item, Object) else {}
    texts = corpus_texts((*text, *([returned] if isinstance(returned, str) else returned)), kinds)

    def search(query: str, k: int) -> list[Any]:
        found = index_of(corpus, text, returned, texts).search(query, k)
        if columns is None:
            return found
        return [{name: as_column(value, kinds[name]) for name, value in row.items()} for row in found]

    async def call(query: str, k: int = tool.parameters["k"].default) -> list[Any]:
        if k < 1:
            raise ToolFailed(f"{tool.id}: k must be at least 1, not {k}")
        try:
            with awaited_whole():
                found: list[Any] = checked(tool, await in_thread(search, query=query, k=k))
            return found
        except (RowsError, OSError) as error:
            raise failed(f"{tool.id}: {error}", error) from error

    return call


def index_of(
    corpus: Path | HubRows, text: tuple[str, ...], returned: Returned, texts: frozenset[str] = frozenset()
) -> Index:
    """Return the search index of a corpus (a file or a hub data set), made in the user's cache if it is not there; a
    file that has changed gets a new one. Raises RowsError where the corpus cannot be read, lacks a column, or holds no
    words, and OSError where there is no such file.

    `text` are the columns to search in, `returned` the column (the key) or columns to return; the columns `texts` of a
    csv or tsv file stay texts, where other columns of numbers are read as numbers.
    """
    known = corpus.stat() if isinstance(corpus, Path) else None
    if not isinstance(corpus, Path) or corpus.suffix.lower() not in (".csv", ".tsv"):
        texts = frozenset()
    with _making:
        return _index(corpus, known and (known.st_mtime_ns, known.st_size), text, returned, texts)


@lru_cache(maxsize=8)
def _index(
    corpus: Path | HubRows,
    state: tuple[int, int] | None,
    text: tuple[str, ...],
    returned: Returned,
    exact: frozenset[str],
) -> Index:
    import bm25s

    if isinstance(corpus, HubRows):
        content = f"{corpus.hf} {corpus.split}"
    else:
        with corpus.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    what = json.dumps([content, text, returned, STOPWORDS, bm25s.__version__, LAYOUT, *sorted(exact)])
    folder = cache_root() / "search" / hashlib.sha256(what.encode()).hexdigest()[:32]
    if not folder.is_dir():
        with whole_folder(folder) as made:
            _make(corpus, text, returned, exact, made)
    return Index(folder)


def _make(
    corpus: Path | HubRows, text: tuple[str, ...], returned: Returned, exact: frozenset[str], folder: Path
) -> None:
    import bm25s
    import numpy as np

    name = corpus.hf if isinstance(corpus, HubRows) else corpus.name
    rows: Iterable[Row] = read_hub(corpus.hf, corpus.split) if isinstance(corpus, HubRows) else read_file(corpus, exact)
    wanted = (*text, *((returned,) if isinstance(returned, str) else returned))
    texts: list[str] = []
    ends: list[int] = []
    with whole_file(folder / "entries.jsonl") as entries:
        for position, row in enumerate(rows):
            absent = next((column for column in wanted if column not in row), None)
            if absent is not None:
                has = ", ".join(map(str, row))
                place = row_place(corpus, position) if isinstance(corpus, Path) else ""
                raise RowsError(f"{name}: row {position} has no column {absent!r}; it has {has}{place}")
            entry = str(row[returned]) if isinstance(returned, str) else {column: row[column] for column in returned}
            entries.write(f"{json.dumps(entry)}\n".encode())
            ends.append(entries.tell())
            texts.append("\n".join(str(row[column]) for column in text if row[column] is not None))
    if not texts:
        raise RowsError(f"{name} holds no rows to search")
    words = bm25s.tokenize(texts, stopwords=STOPWORDS, show_progress=False)
    if not any(words.ids):
        raise RowsError(f"{name} holds no words to search in {', '.join(text)}")
    scorer = bm25s.BM25()
    scorer.index(words, show_progress=False)
    scorer.save(folder, show_progress=False)
    np.save(folder / "ends.npy", np.asarray(ends, dtype=np.int64))
