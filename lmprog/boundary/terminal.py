"""Safe text for the terminal: text of models, tools, rows and specs cannot move its cursor, colour it or turn its lines around.

The command line writes through `guarded` streams, and with consoles of `console`; nothing else writes to a terminal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of writing
    "\u2028\u2029\ud800-\udfff]"  # line breaks of other kinds; halves of surrogate pairs, which no stream can write
)


def printable(text: str) -> str:
    r"""Return the text with each character that a terminal would obey as an escape (`\u001b`): controls but for tab and line
    feed, marks of the direction of writing, odd line breaks, and halves of surrogate pairs."""
    return _ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Guarded:
    """A text stream that writes `printable` text to another stream, whose other attributes it has."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(printable(text.replace("\r\n", "\n")))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Replace standard output and standard error, inside the block, by streams that write only `printable` text."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Guarded(sys.stdout), _Guarded(sys.stderr)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def echo_coloured(text: str) -> None:
    """Write text that holds lmprog's own colour codes, and a line break, to standard output, past a stream of `guarded`;
    text from elsewhere in it must be `printable` already.
    """
    import click

    click.echo(text, file=sys.stdout.stream if isinstance(sys.stdout, _Guarded) else sys.stdout)


def console(*, stderr: bool = False, **options: Any) -> Console:
    """Return a rich Console that prints only printable text, on standard output, or with `stderr` on standard error;
    colours and cursor movements of rich itself pass.

    `options` are those of rich's Console.
    """
    from rich.console import Console
    from rich.segment import Segment

    class PrintableConsole(Console):
        def render(self, *arguments: Any, **named: Any) -> Any:
            for segment in super().render(*arguments, **named):
                yield segment if segment.control else Segment(printable(segment.text), segment.style)

    stream = sys.stderr if stderr else sys.stdout
    return PrintableConsole(file=stream.stream if isinstance(stream, _Guarded) else stream, **options)
