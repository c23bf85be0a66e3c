"""The response to a chat, and the address at which a server listens."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request

from lmprog.errors import InfrastructureError
from lmprog.runtime.result import Result
from lmprog.serving.chat import ChatAnswer
from lmprog.serving.client_tools import WaitingTurns
from lmprog.serving.server import listening

ECHO = """
    name: echo
    inputs: {text: str}
    outputs: {reply: "${{ inputs.text }}"}
"""


def test_half_a_surrogate_pair_is_sent_as_its_escape(program: Any) -> None:
    answer = ChatAnswer(program(ECHO).plan, WaitingTurns(), Request({"type": "http", "headers": []}), print, "run")  # type: ignore[arg-type]
    response = asyncio.run(answer.end(Result({"reply": "odd\ud83d"}, (), None, {}), "run", 0.1))
    assert response is not None and response.headers["content-type"] == "application/json"
    assert json.loads(bytes(response.body))["choices"][0]["message"]["content"] == "odd\ud83d"


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(InfrastructureError, match=r"cannot be listened on: .*; say another --port or --host"):
        listening(host, 0)
