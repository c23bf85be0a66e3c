"""A program inside an application of FastAPI, whose own client asks it: many requests on its event loop."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow
DESK = """
    name: desk
    inputs: {text: str}
    outputs: {said: "${{ steps.say.said }}"}
    modules: {say: {inputs: {text: str}, outputs: {said: str}}}
    steps: {say: {module: say, with: {text: "${{ inputs.text }}"}}}
    """


def test_an_endpoint_awaits_a_program(program: Any, scripted: Any) -> None:
    fastapi = pytest.importorskip("fastapi", reason="needs FastAPI, of the extra `peers`")
    client_of = pytest.importorskip("fastapi.testclient").TestClient
    desk = program(DESK, scripted(lambda request: request.messages[-1]["content"].upper()))
    app = fastapi.FastAPI()

    @app.post("/desk")
    async def answer(text: str) -> dict[str, Any]:
        return dict((await desk.acall(text=text)).outputs)

    @app.post("/blocking")
    def blocking(text: str) -> dict[str, Any]:
        return dict(desk(text=text).outputs)

    with client_of(app) as client:
        for path in ("/desk", "/blocking"):
            said = [client.post(path, params={"text": f"row {number}"}).json() for number in range(10)]
            assert said == [{"said": f"ROW {number}"} for number in range(10)]
