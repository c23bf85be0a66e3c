"""The definition of a name, the places that read it, and the edits that rename it in all files of a program."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lmprog.compiler.errors import Handled
from lmprog.compiler.findings.finding import Edit
from lmprog.compiler.shape import IDENTIFIER
from lmprog.compiler.yaml.source import Mapping, Place, Scalar, Sequence
from lmprog.editing.names import Mention, inner_place
from lmprog.editing.session import Session
from lmprog.editing.structure import Symbol
from lmprog.editing.text import Text

RENAMED = ("steps", "modules", "lms", "tools", "metrics", "vars")
"""Sections whose names can be changed; names of inputs, outputs and fields stand in data and recordings too."""
_FILE = re.compile(r"(?P<file>[^\s:{}]+\.\w+)(?::(?P<name>\w+))?")


class CannotRename(Handled):
    """The error for a name that cannot be renamed; the message says why."""


@dataclass(frozen=True)
class Location:
    """A stretch of one line in the file at `path`; line and column count from 1, `length` counts characters."""

    path: Path
    line: int
    column: int
    length: int


def mention_at(session: Session, path: Path, line: int, column: int) -> Mention | None:
    """Return the name of the program at a line and column (from 1) of a file, also directly behind its last letter; None
    where there is none."""
    return _at(session.mentions(path), line, column)


def definitions(session: Session, path: Path, line: int, column: int) -> list[Location]:
    """Return where the name at a line and column (from 1) is defined: in the file, else in one that it extends, or in that
    of the sub-program; for a text that names a file its start, or the function named behind a colon. Empty where nothing is
    found."""
    found = mention_at(session, path, line, column)
    if found is None:
        return list(_named_file(session, path, line, column))
    program = found.program or path
    symbol = _own_symbol(session, found)
    return _definitions(session, program, symbol) or _nearest(session, program, found)


def _own_symbol(session: Session, mention: Mention) -> Symbol:
    """Return the symbol of a name as its own program has it: an input or output of a sub-program without steps is that of
    its only module."""
    symbol = mention.symbol
    if mention.program is not None and symbol[0] in ("inputs", "outputs"):
        structure = session.structure(mention.program)
        return structure.program_field(symbol[0], symbol[1]) if structure is not None else symbol
    return symbol


def _nearest(session: Session, program: Path, found: Mention) -> list[Location]:
    """Return where the owner of a name is defined that has no definition itself, such as the tool of a result, or the start
    of the sub-program's file; empty where neither is found."""
    if len(found.symbol) > 2 and found.program is None:
        section, owner = found.symbol[:2]
        # A tool of an MCP server, as `files.read_file`, is defined where the server is.
        return _definitions(session, program, (section, owner.partition(".")[0] if section == "tools" else owner))
    return [Location(program, 1, 1, 1)] if found.program is not None and program.is_file() else []


def _definitions(session: Session, program: Path, symbol: Symbol) -> list[Location]:
    """Return the definitions of a symbol in the file `program`, else in the first file that it extends which has one."""
    for file in session.bases(program):
        found = [_location(one, file) for one in session.mentions(file) if one.defines and one.symbol == symbol]
        if found:
            return found
    return []


def references(session: Session, path: Path, line: int, column: int, definitions_too: bool = True) -> list[Location]:
    """Return the places where the name at a line and column (from 1) is used, in all files of the program and of programs that
    run it.

    With `definitions_too` the places where it is defined are included. Empty where there is no name.
    """
    at = mention_at(session, path, line, column)
    if at is None:
        return []
    found = _everywhere(session, at.program or path, _own_symbol(session, at))
    return [_location(one, file) for file, one in found if definitions_too or not one.defines]


def _everywhere(session: Session, path: Path, symbol: Symbol) -> Iterator[tuple[Path, Mention]]:
    """Yield the mentions of a symbol of a program, with the files that they are in."""
    family = session.family(path)
    for file in family:
        yield from ((file, one) for one in session.mentions(file) if one.program is None and one.symbol == symbol)
    for file in session.callers(family):
        for one in session.mentions(file):
            if one.program in family and _own_symbol(session, one) == symbol:
                yield file, one


def renamable(session: Session, path: Path, line: int, column: int) -> Mention:
    """Return the name at a line and column (from 1) if names of its section can be renamed (RENAMED: steps, modules, LMs,
    tools, metrics and vars); raise CannotRename if not, or where there is no name. Only `renamed` finds out what else
    hinders it."""
    found = mention_at(session, path, line, column)
    if found is None:
        raise CannotRename("there is no name of the program here")
    if found.symbol[0] not in RENAMED or len(found.symbol) != 2:
        raise CannotRename(f"names of {', '.join(RENAMED)} can be changed here; `{found.name}` may stand in data too")
    return found


def renamed(session: Session, path: Path, line: int, column: int, name: str) -> dict[Path, list[Edit]]:
    """Return the edits, by file, that rename to `name` the name at a line and column (from 1), in all files of the
    program and of programs that run it; no file is changed.

    Raise CannotRename where no name stands there, or one of a section that is not in RENAMED (of inputs or outputs,
    say); where `name` is no name or is taken; where a file cannot be read, or has the name in a text that is escaped or
    goes over lines; and where the program at `path` would have more errors.
    """
    found = renamable(session, path, line, column)
    if not IDENTIFIER.match(name):
        raise CannotRename(f"`{name}` cannot be a name: a name has letters, digits and _, and starts with no digit")
    program, symbol = found.program or path, found.symbol
    for file in session.family(program):
        _readable(session, file)
        if name != found.name and (taken := _taken(symbol, name, session.mentions(file))) is not None:
            raise CannotRename(f"`{name}` is defined already, in line {taken.place.line} of {file.name}")
    edits: dict[Path, list[Edit]] = {}
    for file, one in _everywhere(session, program, symbol):
        if not one.exact:
            raise CannotRename(
                f"line {one.place.line} of {file.name} has `{found.name}` in a text that is escaped or goes over lines; "
                f"write it on one line first"
            )
        edits.setdefault(file, []).append(_edit(one, name))
    _harmless(session, path, edits)
    return edits


def _harmless(session: Session, path: Path, edits: dict[Path, list[Edit]]) -> None:
    """Raise CannotRename where the program at `path` would have more errors after the edits than it has now."""
    before = session.checked(path).compilation.errors
    texts = {file: edited(session.text(file), own) for file, own in edits.items()}
    after = Session(session.imports, session.folders, {**session.texts, **texts}).check(path).compilation.errors
    if len(after) > len(before):
        known = {(one.code, one.line) for one in before}
        new = next((one for one in after if (one.code, one.line) not in known), after[0])
        raise CannotRename(f"the program would have an error then: {new.file}:{new.line}: {new.message}")


def edited(text: Text, edits: Iterable[Edit]) -> str:
    """Return the raw text with the edits made, whose places are those of the text before any; they must not overlap."""
    raw = text.raw
    for edit in sorted(edits, key=lambda one: (one.line, one.column), reverse=True):
        start, end = text.offset(edit.line, edit.column), text.offset(edit.line, edit.end_column)
        raw = raw[:start] + edit.text + raw[end:]
    return raw


def _readable(session: Session, file: Path) -> None:
    wrong = session.wrong(file)
    if wrong is not None:
        raise CannotRename(
            f"{file.name} cannot be read, so names in it would be missed: line {wrong.line}: {wrong.message}"
        )


def _taken(symbol: Symbol, name: str, every: list[Mention]) -> Mention | None:
    """Return the first definition among the mentions `every` that has the name which a symbol is to get, in the same section
    (of steps at the same level, and in loops around or inside it); None where there is none."""
    for one in every:
        if not one.defines or one.symbol[0] != symbol[0] or len(one.symbol) != 2 or one.name != name:
            continue
        if symbol[0] != "steps":
            return one
        level, other = symbol[1].rpartition(".")[0], one.symbol[1].rpartition(".")[0]
        if f"{level}.".startswith(f"{other}.") or f"{other}.".startswith(f"{level}.") or not level or not other:
            return one
    return None


def _edit(mention: Mention, name: str) -> Edit:
    place = mention.place
    return Edit(place.line, place.column, place.column + place.length, name)


def _at(mentions: list[Mention], line: int, column: int) -> Mention | None:
    around = [
        one
        for one in mentions
        if one.place.line == line and one.place.column <= column <= one.place.column + one.place.length
    ]
    return around[-1] if around else None


def _location(mention: Mention, file: Path) -> Location:
    place = mention.place
    return Location(file, place.line, place.column, place.length)


def _named_file(session: Session, path: Path, line: int, column: int) -> Iterator[Location]:
    """Yield the file that the text at a place names, at the line of the function or class behind its colon, else at its
    start; nothing where there is no such file, or the program may not read it."""
    root = session.parsed(path)
    node = _scalar_at(root, line, column) if root is not None else None
    named = _FILE.fullmatch(node.text) if node is not None else None
    if named is None:
        return
    file = (path.parent / named["file"]).resolve()
    confines = session.confines(path)
    if not file.is_file() or (confines is not None and not file.is_relative_to(confines)):
        return
    lines = session.text(file).lines if named["name"] else []
    pattern = re.compile(rf"\s*(?:async\s+)?(?:def|class)\s+{named['name']}\b")
    found = next((number for number, text in enumerate(lines, start=1) if pattern.match(text)), 1)
    yield Location(file, found, 1, 1)


def _scalar_at(node: object, line: int, column: int) -> Scalar | None:
    if isinstance(node, Scalar):
        place: Place = inner_place(node)
        return node if place.line == line and place.column <= column <= place.column + place.length else None
    parts = node.entries.values() if isinstance(node, Mapping) else node.items if isinstance(node, Sequence) else ()
    return next((found for part in parts if (found := _scalar_at(part, line, column)) is not None), None)
