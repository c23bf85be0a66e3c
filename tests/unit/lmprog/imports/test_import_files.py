"""Files of other formats that are no programs: one sentence and status 2, at once, whatever stands in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmprog.errors import UsageError
from lmprog.imports import promptflow, prompty
from lmprog.imports.files import read_yaml

BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
BAD = {
    "a bomb": (BOMB.encode(), "stand for too much to read"),
    "an alias of itself": (b"a: &a [*a]\n", "aliases that hold themselves"),
    "a cycle": (b"a: &a {b: &b {c: *a, d: *b}}\n", "aliases that hold themselves"),
    "latin-1": ("name: é\n".encode("latin-1"), "not UTF-8 text"),
    "deep": (b"a: " + b"[" * 5000 + b"]" * 5000 + b"\n", "nested too deeply"),
    "a long number": (b"a: " + b"9" * 5000 + b"\n", "a value that cannot be read"),
    "no YAML": (b"a: [\n", "is not YAML"),
    "a control character": (b"a: b\x00\n", "is not YAML: unacceptable character #x0000"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    front = tmp_path / "a.prompty"
    front.write_bytes(b"---\n" + content + b"---\nuser:\nhello\n")
    flow = tmp_path / "flow.dag.yaml"
    flow.write_bytes(content)
    for read in (lambda: prompty.imported(front), lambda: promptflow.imported(flow, tmp_path)):
        with pytest.raises(UsageError, match=said) as caught:
            read()
        assert len(str(caught.value)) < 1000


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.prompty"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="no regular file"):
        prompty.imported(path)


def test_templates_without_an_end_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.prompty"
    path.write_text("---\nname: a\n---\nuser:\n" + "{% for x in xs %}" * 6000)
    with pytest.raises(UsageError, match=r"nested too deeply|template"):
        prompty.imported(path)


def test_a_date_is_the_text_that_it_is_written_as() -> None:
    assert read_yaml("day: 2024-01-02\nn: 3\nyes: true\n", "a") == {"day": "2024-01-02", "n": 3, True: True}
