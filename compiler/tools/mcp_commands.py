"""The command that starts an MCP server, as a check sees it: the files that it names must be there. Nothing is started."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import PurePath

from lmprog.compiler.draft import Draft, near_file
from lmprog.compiler.findings.finding import Severity
from lmprog.compiler.yaml.files import followed, refusal
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence

_SCRIPTS = (".py", ".js", ".mjs", ".cjs", ".ts", ".sh", ".rb")
_INTERPRETERS = ("python", "node", "bun", "deno", "bash", "sh", "ruby")
"""Commands whose first argument with the ending of a script is a file, relative to the folder in which the server starts."""


def report_absent(draft: Draft, id: str, node: Mapping) -> bool:
    """Report the local files that the command of the tool `id` names (itself by a path, or a script) and that do not
    exist; return whether there are any. A script with a relative path is an error; the command itself, which may be
    installed where the program runs and not where it is checked (`.venv/bin/python`), and an absolute path, which may
    be one of another machine, are warnings."""
    absent = False
    words = list(_words(node))
    for place, (word, written) in enumerate(words):
        if "${{" in word or "://" in word or not (_is_script(words, place) if place else "/" in word):
            continue
        path = followed(written.source.folder / word)
        if refusal(path, draft.options.root) is not None or os.path.exists(path):
            continue
        absent = True
        what = "starts" if place == 0 else "starts a server from"
        severity: Severity = "warning" if place == 0 or PurePath(word).is_absolute() else "error"
        message = f"tool `{id}` {what} `{word}`, which does not exist"
        draft.report.add("LMP103", written.place, message, severity=severity, fix=near_file(path))
    return absent


def not_on_path(node: Mapping) -> str | None:
    """Return the command of a server that is no path and that this machine does not have; None where it is there."""
    word = next((word for word, _ in _words(node)), "")
    return word if word and "/" not in word and "${{" not in word and shutil.which(word) is None else None


def _is_script(words: list[tuple[str, Node]], place: int) -> bool:
    """Return whether an argument is the script that the interpreter before it runs."""
    name = PurePath(words[0][0]).name.rstrip("0123456789.")
    before = [word for word, _ in words[1:place]]
    first = not any(word.endswith(_SCRIPTS) or word in ("-m", "-c", "-e") for word in before)
    return name in _INTERPRETERS and first and words[place][0].endswith(_SCRIPTS)


def _words(node: Mapping) -> Iterator[tuple[str, Node]]:
    """Yield the words of a server's command, each with the node in which it is written."""
    command, args = node.get("command"), node.get("args")
    if isinstance(command, Scalar):
        text = str(command.value)
        try:
            yield from ((word, command) for word in (shlex.split(text) if args is None else [text]))
        except ValueError:
            return
    for listed in (command, args):
        if isinstance(listed, Sequence):
            yield from ((str(item.value), item) for item in listed.items if isinstance(item, Scalar))
