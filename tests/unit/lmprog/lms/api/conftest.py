"""A server of chat completions, and a program that asks it by either route."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import lmprog
from lmprog.lms import api
from tests.unit.lmprog.lms.api.server_for_api import DIRECT, KEY, SPEC, Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def remote(write, server, monkeypatch) -> Callable[..., lmprog.Program]:
    """The program on a model, with texts of its spec replaced."""
    monkeypatch.setattr(api, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(api, "MAX_WAIT", 0.08)
    monkeypatch.setenv("TEST_API_BASE", server.url)
    monkeypatch.setenv("TEST_KEY", KEY)

    def make(model: str = DIRECT, **replaced: str) -> lmprog.Program:
        text = SPEC.replace("MODEL", model)
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        return lmprog.load(write(text))

    return make
