"""The kinds of programs to begin with: the files of each, and the extras that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable

ROOT = files("lmprog.starter")
LEFT_OUT = ("README.md", "mistakes.yaml", "replies.yaml", "recording.jsonl", "recording.jsonl.meta.json", "__pycache__")
"""Files of a program in the gallery that belong to its page and its recording."""


@dataclass(frozen=True)
class Kind:
    """A kind of program that `lmprog init` can write: its name, a description, the folder of its files, and the name of its
    spec; all are in KINDS.

    `extras` are those that it needs, `small` is True where the embedded model answers it well, and `unread` has, by module,
    the `on_error` that its step gets where such a model answers, which may not finish its reply.
    """

    name: str
    about: str
    folder: str
    """Folder of its files in this package."""
    spec: str
    """The name of its program."""
    extras: tuple[str, ...] = ()
    """Extras of lmprog that its tools need."""
    small: bool = False
    """True if the embedded model can do it; others run with it, and do it badly."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Module -> `on_error` of its step where a model in this process answers: it may never end a text in its JSON."""

    def files(self) -> dict[str, bytes]:
        """Return the contents of the new folder's files by relative path, the program first; what belongs to the gallery's
        pages alone (LEFT_OUT) is not among them.
        """
        found = dict(_files(ROOT / self.folder))
        return {self.spec: found.pop(self.spec), **found}


def _files(folder: Traversable, above: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name in LEFT_OUT:
            continue
        if entry.is_dir():
            yield from _files(entry, f"{above}{entry.name}/")
        else:
            yield f"{above}{entry.name}", entry.read_bytes()


def _of_gallery(name: str, about: str, *extras: str, small: bool = False, **unread: str) -> Kind:
    return Kind(name, about, f"gallery/{name}", f"{name}.yaml", extras, small, unread)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("classify", "sort texts by labels, and answer them", "desk", "desk.yaml", small=True),
        _of_gallery(
            "extract",
            "read a pydantic model out of a text",
            read="{order: {items: [{product: roll, pieces: 1}], pickup: '2026-01-01', hour: null, name: (not read)}}",
        ),
        _of_gallery(
            "rag", "answer from a collection of texts, with citations", "search", answer="{answer: '', sources: []}"
        ),
        _of_gallery("agent", "let a model call the tools of an MCP server", "mcp"),
        _of_gallery(
            "summary", "read a long document in parts, and put the notes together", merge="{decisions: [], summary: ''}"
        ),
        _of_gallery("critique", "draft, criticise, revise", criticise="{remarks: '', verdict: revise}"),
        _of_gallery(
            "triage",
            "sort with a small model, and ask a large one where it is unsure",
            small=True,
            escalate='{team: "${{ steps.first.team }}"}',
        ),
        _of_gallery("sql", "answer questions from a database, with a tool that may fail"),
        _of_gallery("translate", "translate with a glossary"),
    )
}
"""Name -> kind, the default first."""
