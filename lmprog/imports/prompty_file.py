"""Reading of a `.prompty` file: its front matter and body, with the files and environment variables that they name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmprog.boundary.wire import loads
from lmprog.compiler.yaml.files import followed
from lmprog.errors import UsageError
from lmprog.imports.files import may_read, read_text, read_yaml

_FRONT = re.compile(r"\A\s*(---|\+\+\+)[ \t]*\n(.*?)^\1[ \t]*(?:\n|\Z)(.*)\Z", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"\$\{file:(.*)\}", re.IGNORECASE | re.DOTALL)
_ENV = re.compile(r"\$\{env:(\w+)(?::(.*))?\}", re.IGNORECASE | re.DOTALL)
_BLOCK = re.compile(r"\{%\s*block\s+(\w+)\s*%\}((?:(?!\{%-?\s*block\b).)*?)\{%\s*endblock(?:\s+\w+)?\s*%\}", re.DOTALL)
_EXTENDS = re.compile(r"\A\s*\{%-?\s*extends\s+[\"']([^\"']+)[\"']\s*-?%\}")
_MAX_BASES = 5
_VALUES = ("sample", "inputs", "inputSchema")
"""Keys whose values may name files and variables, and are values of the prompt."""


@dataclass(frozen=True)
class PromptyFile:
    """The parts of a `.prompty` file, laid over those of its `base`: its settings (`front`, the front matter), its prompt
    (`body`, a template with role lines), and notes, pairs of a section of the spec and a text on what could not be read.
    """

    front: dict[str, Any]
    body: str
    notes: tuple[tuple[str, str], ...]


def read(path: Path, around: tuple[Path, ...] = ()) -> PromptyFile:
    """Return the settings and prompt of a prompty file, laid over those of the file that it names as `base`; a base that may
    not or cannot be read gets a note.

    `around` are the files whose `base` this file is (paths without links), so that a circle is found. Raises UsageError
    where the file cannot be read or is no prompty file.
    """
    found = _FRONT.match(read_text(path))
    if found is None:
        raise UsageError(f"{path} has no front matter between `---` lines, so it is no prompty file")
    front = read_yaml(found[2], f"the front matter of {path}") or {}
    if not isinstance(front, dict):
        raise UsageError(f"the front matter of {path} is not a mapping of keys")
    notes: list[tuple[str, str]] = []
    for key in _VALUES:
        if isinstance(front.get(key), dict | list):
            front[key] = _resolved(front[key], path, notes)
    body, base = _without_blocks(found[3], path), front.get("base")
    if not isinstance(base, str):
        return PromptyFile(front, body, tuple(notes))
    below = path.parent / base
    try:
        # Whether it may be read comes first: no other function takes what is no path at all.
        if not may_read(path, below) or len(around) >= _MAX_BASES or followed(below) in (followed(path), *around):
            raise UsageError("it is not read")
        under = read(below, (*around, followed(path)))
    except UsageError:
        notes.append(("file", f"`base: {base}`, which cannot be read"))
        return PromptyFile(front, body, tuple(notes))
    over = {key: value for key, value in front.items() if key != "base"}
    return PromptyFile(_laid_over(under.front, over), body if body.strip() else under.body, (*under.notes, *notes))


def _without_blocks(body: str, path: Path) -> str:
    """Return the template `body` of the prompty file `path` without Jinja's blocks, which lmprog's templates lack: each is
    replaced by its content, and where the template extends another file, put in the place of that file's block.

    Return `body` unchanged where that file may not or cannot be read, extends another one itself, or a block calls
    `super()`. Of blocks within each other only the inner ones are replaced.
    """
    extends = _EXTENDS.match(body)
    if extends is None:
        return _BLOCK.sub(lambda block: block[2], body)
    other = path.parent / extends[1]
    try:
        under = None if not may_read(path, other) else _FRONT.match(read_text(other))
    except UsageError:
        under = None
    if under is None or "super()" in body or _EXTENDS.match(under[3]):
        return body
    blocks = {block[1]: block[2] for block in _BLOCK.finditer(body)}
    return _BLOCK.sub(lambda block: blocks.get(block[1], block[2]), under[3])


def json_beside(path: Path, reference: str) -> Any:
    """Return the value of a JSON file that the prompty file `path` names by `reference`, a path from its folder or
    `${file:...}`; None where it cannot be read as JSON, and for a file outside of the git checkout (else the folder) of
    the prompty file, whose contents would be copied.
    """
    found = _FILE.fullmatch(reference)
    name = path.parent / (found[1] if found is not None else reference).strip()
    if not may_read(path, name):
        return None
    try:
        return loads(read_text(name))
    except (UsageError, ValueError):
        return None


def _resolved(value: Any, path: Path, notes: list[tuple[str, str]]) -> Any:
    """Return a value of the front matter with the content of the JSON files that its texts `${file:...}` name, and the default
    (None: there is none) of each `${env:...}`, whose variable is not read. `notes` gets a pair for each variable, and for
    each file that cannot be read, which becomes None.
    """
    if isinstance(value, dict):
        return {key: _resolved(item, path, notes) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, path, notes) for item in value]
    if not isinstance(value, str):
        return value
    variable = _ENV.fullmatch(value.strip())
    if variable is not None:
        notes.append(
            ("tests", f"the value `{value}`, which stands in the environment: {variable[2] or 'none'} is taken")
        )
        return variable[2]
    named = _FILE.fullmatch(value.strip())
    if named is None:
        return value
    found = json_beside(path, value.strip())
    if found is None:
        notes.append(("tests", f"the value `{value}`, a file that cannot be read as JSON"))
    return found


def _laid_over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return the mapping `base` with the entries of `over` in it; mappings under the same key are joined likewise."""
    return {
        **base,
        **{
            key: _laid_over(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
            for key, value in over.items()
        },
    }
