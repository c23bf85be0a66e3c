"""Full-text search (BM25) over a file of rows, as a tool that returns the keys of the best rows.

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

from lmprog.aio.threads import awaited_whole, in_thread
from lmprog.compiler.plan import HubRows, Tool
from lmprog.compiler.rows.files import Row, RowsError, read_file
from lmprog.compiler.rows.reading import read_hub
from lmprog.compiler.yaml.whole_file import whole_folder, write_whole
from lmprog.extras import require
from lmprog.state.cache_folder import cache_root
from lmprog.tools.tool import ToolFailed, failed

LAYOUT = 1
"""Raise it when what `_make` writes changes: the folder of an index is named by it too."""
STOPWORDS = "en"
"""English words that are in every text. Words are not stemmed: on questions over Wikipedia that finds as much."""

_making = Lock()


class Index:
    """The BM25 index of one corpus; it may be searched from several threads."""

    def __init__(self, folder: Path) -> None:
        import bm25s

        self._scorer = bm25s.BM25.load(folder, mmap=True)
        self._keys: list[str] = json.loads((folder / "keys.json").read_text(encoding="utf-8"))

    def search(self, query: str, k: int) -> list[str]:
        """Return the keys of the k best rows, best first, each key once; fewer where fewer rows share a word with the query.

        Rows of equal score come in the order of the corpus.
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
            # Rows of one page share a key, so that more rows than keys may be needed.
            least = np.partition(scores, -wanted)[-wanted] if wanted < len(scores) else 0.0
            (among,) = np.nonzero((scores >= least) & (scores > 0.0))
            for position in among[np.lexsort((among, -scores[among]))]:
                found.setdefault(self._keys[position])
            if len(found) >= k or wanted >= len(scores):
                return list(found)[:k]
            wanted *= 2


def search_tool(tool: Tool) -> Callable[..., Awaitable[list[str]]]:
    """Return an async function of `query` and `k` that gives the keys of the `k` best rows of the tool's corpus, best first.

    Raises MissingExtra where bm25s is not installed; the function raises ToolFailed where `k` is below 1, or the corpus cannot
    be read.
    """
    require(("bm25s",), f"the tool {tool.id!r}")
    corpus, text, key = tool.settings["corpus"], tuple(tool.settings["text"]), tool.settings["key"]

    def search(query: str, k: int) -> list[str]:
        return index_of(corpus, text, key).search(query, k)

    async def call(query: str, k: int = tool.parameters["k"].default) -> list[str]:
        if k < 1:
            raise ToolFailed(f"{tool.id}: k must be at least 1, not {k}")
        try:
            with awaited_whole():
                return await in_thread(search, query=query, k=k)
        except (RowsError, OSError) as error:
            raise failed(f"{tool.id}: {error}", error) from error

    return call


def index_of(corpus: Path | HubRows, text: tuple[str, ...], key: str) -> Index:
    """Return the search index of a file or a hub data set, made if it is not cached. Raises RowsError where it cannot be read.

    `text` are the columns to search in, `key` the column to return.
    """
    known = corpus.stat() if isinstance(corpus, Path) else None
    with _making:
        return _index(corpus, known and (known.st_mtime_ns, known.st_size), text, key)


@lru_cache(maxsize=8)
def _index(corpus: Path | HubRows, state: tuple[int, int] | None, text: tuple[str, ...], key: str) -> Index:
    import bm25s

    if isinstance(corpus, HubRows):
        content = f"{corpus.hf} {corpus.split}"
    else:
        with corpus.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    what = json.dumps([content, text, key, STOPWORDS, bm25s.__version__, LAYOUT])
    folder = cache_root() / "search" / hashlib.sha256(what.encode()).hexdigest()[:32]
    if not folder.is_dir():
        with whole_folder(folder) as made:
            _make(corpus, text, key, made)
    return Index(folder)


def _make(corpus: Path | HubRows, text: tuple[str, ...], key: str, folder: Path) -> None:
    import bm25s

    name = corpus.hf if isinstance(corpus, HubRows) else corpus.name
    rows: Iterable[Row] = read_hub(corpus.hf, corpus.split) if isinstance(corpus, HubRows) else read_file(corpus)
    keys, texts = [], []
    for position, row in enumerate(rows):
        absent = next((column for column in (*text, key) if column not in row), None)
        if absent is not None:
            has = ", ".join(map(str, row))
            raise RowsError(f"{name}: row {position} has no column {absent!r}; it has {has}")
        keys.append(str(row[key]))
        texts.append("\n".join(str(row[column]) for column in text if row[column] is not None))
    if not texts:
        raise RowsError(f"{name} holds no rows to search")
    words = bm25s.tokenize(texts, stopwords=STOPWORDS, show_progress=False)
    if not any(words.ids):
        raise RowsError(f"{name} holds no words to search in {', '.join(text)}")
    scorer = bm25s.BM25()
    scorer.index(words, show_progress=False)
    scorer.save(folder, show_progress=False)
    write_whole(folder / "keys.json", json.dumps(keys, ensure_ascii=False))
