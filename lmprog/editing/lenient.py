"""The tree of a text of which some lines are half typed: those at which YAML cannot be read are left empty."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from lmprog.compiler.findings.finding import Report
from lmprog.compiler.yaml import reader
from lmprog.compiler.yaml.source import Mapping, Source
from lmprog.editing.text import Text

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^']|'')*'")
TRIES = 4
"""The most times that the text is read, each time without one more line."""


@lru_cache(maxsize=16)
def lenient(path: Path, raw: str) -> Mapping | None:
    """Return the YAML tree of those lines of the text `raw` that can be read; None where these are no mapping.

    The line of an error is left out, up to TRIES (4) times. Where that does not help, the mistake is in another line: lines
    that leave a quote or a bracket open are then left out first. Line numbers stay the same; tabs are read as blanks.
    """
    lines = [line.replace("\t", " ") for line in Text(raw).lines]
    open_ones = [number for number, line in enumerate(lines, start=1) if _leaves_open(line)]
    return _read(path, lines) or _read(path, _without(lines, open_ones))


def _read(path: Path, lines: list[str]) -> Mapping | None:
    for _ in range(TRIES):
        report = Report()
        root = reader.parse(Source(path, path.name, "\n".join(lines) + "\n", path.parent), report)
        if isinstance(root, Mapping):
            return root
        wrong = [finding.line for finding in report.findings.values()]
        if not wrong:
            return None
        number = min(len(lines), wrong[0])
        while number > 1 and not lines[number - 1].strip():
            number -= 1
        lines = _without(lines, [number])
    return None


def _without(lines: list[str], numbers: Iterable[int]) -> list[str]:
    left_out = set(numbers)
    return ["" if number in left_out else line for number, line in enumerate(lines, start=1)]


def _leaves_open(line: str) -> bool:
    """Return whether a line opens a quote or a bracket and does not close it."""
    bare = _QUOTED.sub("", line)
    # An apostrophe within a word is no quote.
    quote = re.search(r"""(?:^|[\s:\[{,])["']""", bare) is not None
    return quote or any(bare.count(one) > bare.count(other) for one, other in ("[]", "{}"))
