"""Programs that the tests of the editor go through, and a session that has one of them open."""

from __future__ import annotations

from pathlib import Path

from lmprog.editing.session import Session

ROOT = Path(__file__).resolve().parents[4]
FILES = sorted([*ROOT.glob("specs/**/*.yaml"), *ROOT.glob("tests/specs/good/*.yaml")])
PROGRAMS = [path for path in FILES if "\nlmprog: 1\n" in f"\n{path.read_text(encoding='utf-8')}"]
"""Programs without errors; each is named by its path in parametrized tests."""


def opened(path: Path, text: str | None = None) -> Session:
    """Return a session in which a program is open and checked."""
    session = Session(imports=False)
    session.texts[path] = path.read_text(encoding="utf-8") if text is None else text
    session.check(path)
    return session


def at(text: str, marked: str = "¦") -> tuple[str, int]:
    """Return a text without the mark of the cursor in it, and the cursor's offset."""
    offset = text.index(marked)
    return text[:offset] + text[offset + len(marked) :], offset
