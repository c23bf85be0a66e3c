"""The programs that earlier stages have scored on all choosing rows, for a stage that joins several (`ensemble`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.journal.lineage import StageTree
from lmprog.runtime.program import Program


@dataclass(frozen=True)
class Finalists:
    """The best programs of the earlier stages, which differ only in their words (instructions, demos, layouts)."""

    program: Program
    """The program as written, with the adapters of the best so far."""
    words: Sequence[Candidate]
    """The changes of each to the program: the best so far first, the others by their scores."""


def words_of(trees: Sequence[StageTree], came_to: Sequence[Candidate], rows: int) -> list[Candidate]:
    """Return the words, as changes to the program as written, of the candidates that were scored on all `rows` choosing
    rows.

    `trees` are the candidates of each stage, `came_to` the stages' results in the same order. The last result comes
    first, whatever it was scored on (START without any stage), the others follow by their scores, the best first; equal
    changes are listed once.
    """
    best = came_to[-1].words if came_to else START
    scored: list[tuple[float, Candidate]] = []
    for tree, before in zip(trees, (START, *came_to), strict=False):
        for entry in tree.entries.values():
            if entry.score is not None and entry.rows >= rows:
                change = START if entry.digest == START.digest else entry.words
                scored.append((entry.score["mean"], before.then(change).words))
    scored.sort(key=lambda pair: pair[0], reverse=True)
    others = {words.digest: words for _, words in scored if words.digest not in (best.digest, START.digest)}
    return [best, *others.values()]
