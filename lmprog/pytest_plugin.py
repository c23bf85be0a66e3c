"""A pytest plugin: the fixture `lmprog_program` loads programs whose calls are answered from a recording beside the test.

pytest imports this file wherever lmprog is installed, so all that it needs is imported when a test uses the fixture.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lmprog.runtime.program import Program
    from lmprog.traces.record import Record
    from lmprog.traces.run_trace import RunTrace

FOLDER = "cassettes"
MAX_NAME = 150
"""The most characters of a test's name in that of its recording."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--lmprog` to pytest: `replay` (the default), `record` or `live`."""
    parser.getgroup("lmprog").addoption(
        "--lmprog",
        choices=("replay", "record", "live"),
        default="replay",
        help="How the calls of the fixture lmprog_program are answered: replay (from the recording of the test, the default), "
        "record (by the models and tools, and kept in it), live (by them, and not kept).",
    )


@pytest.fixture
def lmprog_program(request: pytest.FixtureRequest) -> Iterator[Callable[..., Program]]:
    """Yield a function that loads a program, with the arguments of `lmprog.load`; a relative path starts at the folder
    of the test.

    The calls of LMs and tools, judges included, are answered from `cassettes/FILE/TEST.jsonl` beside the test (FILE
    without `.py`). A call that it does not hold fails the test, one that is not made does not; where there is no such
    file, loading raises UsageError. With `pytest --lmprog=record` they are made, and written there in place of earlier
    ones when the test ends, also if it fails (a call without a reply fails it, and nothing is written); with `live`
    they are only made.
    """
    mode = request.config.getoption("--lmprog")
    cassette = cassette_of(request.node)
    if mode == "replay" and not cassette.is_file():
        cassette = _earlier_cassette(request.node)
    made: list[Record] = []

    def keep(run: RunTrace) -> None:
        made.extend(run.records)

    def load(path: str | Path, **how: Any) -> Program:
        from lmprog.errors import UsageError
        from lmprog.runtime.program import load

        program = load(request.path.parent / path, **how)
        if mode == "replay":
            if not cassette.is_file():
                asked = f"pytest --lmprog=record {request.node.nodeid!r}"
                raise UsageError(f"there is no recording {cassette}; make it first, with the models at hand: {asked}")
            return program.replaying(cassette)
        return program.with_exporter(keep) if mode == "record" else program

    yield load
    if mode == "record":
        _write(cassette, made)


def cassette_of(node: pytest.Item) -> Path:
    """Return the path of a test's recording: a file for each test, in a folder for each file of tests. Characters that file
    names may not hold become `_`, and long names end at MAX_NAME (150) characters; a digest of the whole name is then added,
    so that no two tests share a file.
    """
    whole, plain = _names(node)
    name = plain[:MAX_NAME]
    if name != whole:
        name += f"-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return node.path.parent / FOLDER / node.path.stem / f"{name}.jsonl"


def _names(node: pytest.Item) -> tuple[str, str]:
    """Return the name of a test within its file, as it is and with `_` for the characters that file names may not hold."""
    whole = node.nodeid.partition("::")[2].replace("::", ".")
    return whole, re.sub(r"[^\w.,=\[\]-]+", "_", whole)


def _earlier_cassette(node: pytest.Item) -> Path:
    """Return the recording under the test's whole name without a digest, as earlier versions wrote it, if it is there, even
    if another test's name becomes the same; else that of `cassette_of`."""
    cassette = cassette_of(node)
    earlier = cassette.with_name(f"{_names(node)[1]}.jsonl")
    try:
        return earlier if earlier.is_file() else cassette
    except OSError:  # a name that no file can have
        return cassette


def _write(cassette: Path, made: list[Record]) -> None:
    """Write the recording of a test whole; where a call had no reply, fail the test and write nothing, since each replay
    would fail.
    """
    from lmprog.compiler.yaml.whole_file import write_whole
    from lmprog.state.json_lines import versioned_line
    from lmprog.traces.record import Invocation

    lost = next((call for call in made if isinstance(call, Invocation) and call.text is None), None)
    if lost is not None:
        pytest.fail(f"{cassette} was not written, since a call had no reply: {lost.error}", pytrace=False)
    write_whole(cassette, b"".join(versioned_line(call.as_json()) for call in made))
