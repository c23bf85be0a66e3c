"""What tests of every room share: an LM that does as it is told, and programs written into a folder of the test's own."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import lmprog
from lmprog import Completion, Request

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("same")


class ScriptedLM:
    """Answers with `answer(request)`: a text, a Completion, or an exception that is raised; after `delay(request)` seconds."""

    def __init__(self, answer: Callable[[Request], Any], delay: Callable[[Request], float] | float = 0.0) -> None:
        self.answer, self.delay = answer, delay
        self.requests: list[Request] = []
        self.active = 0
        self.most_active = 0

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(self.delay(request) if callable(self.delay) else self.delay)
            answer = self.answer(request)
        finally:
            self.active -= 1
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Completion) else Completion(text=answer)


@pytest.fixture
def scripted() -> type[ScriptedLM]:
    return ScriptedLM


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file, its common indentation removed, into the test's folder, and gives its path."""

    def write(text: str, name: str = "program.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return write


@pytest.fixture
def program(write: Callable[..., Path]) -> Callable[..., lmprog.Program]:
    """A program of the given YAML, without its first two lines, whose LM `lm` is the given one."""

    def make(text: str, lm: Any = None, **files: str) -> lmprog.Program:
        for name, content in files.items():
            write(content, name.replace("__", "."))
        head = "lmprog: 1\nlms: {lm: {model: openai/none, trusted: true}}\n"
        path = write(head + textwrap.dedent(text).lstrip("\n"))
        return lmprog.load(path, lms={} if lm is None else {"lm": lm})

    return make
