"""Whatever befalls a command at a random moment, the same command then ends with the same bytes, or refuses and says why.

Each round draws a moment and a place. LMPROG_CHAOS=200 makes that many rounds.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lmprog.state.json_lines import read_objects
from tests.functional.chaos import FAULTS, JUNK, Desk, befall
from tests.ports import reserved

pytest.importorskip("trl", reason="needs the extra 'local'")

pytestmark = pytest.mark.kill

ROUNDS = int(os.environ.get("LMPROG_CHAOS", "20"))
LIGHT = ("run", "eval", "test", "search", "serve")
ORDER = [*LIGHT, "grpo", *LIGHT, "sft", *LIGHT, "fast_slow"]
SERVED = ("kill", "line", "cut", "second process", "full disk")
"""The faults of a server: it goes on with nothing, so that no row or metric of it can change."""


def round_of(number: int) -> tuple[str, str]:
    """Return the command and the fault of a round: each command meets all its faults in turn, and begins with another one."""
    kind = ORDER[number % len(ORDER)]
    before = sum(ORDER[earlier % len(ORDER)] == kind for earlier in range(number))
    faults = SERVED if kind == "serve" else FAULTS
    return kind, faults[(before + ORDER.index(kind)) % len(faults)]


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """Each command as it ends where nothing befalls it: its folder, its result, and how far it came."""
    return {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_fault_ends_in_the_same_bytes_or_in_a_refusal(
    number: int, whole, provider, tiny_model, tmp_path_factory
) -> None:
    draw = random.Random(f"chaos {number}")
    kind, fault = round_of(number)
    provider.answer = answer
    provider.seconds = 0.005
    folder = tmp_path_factory.mktemp("chaos")
    if kind == "serve":
        serve_on(Desk(folder / "desk", kind, provider, tiny_model), fault, draw)
        return
    if kind not in whole:
        first = Desk(folder / "desk", kind, provider, model(whole, tiny_model))
        status, said = first.run()
        assert status == 0, said
        wanted, way = first.result, first.progress
        whole[kind] = first.folder.rename(folder / "whole"), first.folder, wanted, way
    known, place, wanted, way = whole[kind]
    # At the same place each time: the journal of a training names its adapters by their whole paths.
    shutil.rmtree(place, ignore_errors=True)
    desk = Desk(place, kind, provider, model(whole, tiny_model))
    befall(desk, fault, known, way, draw)
    status, said = desk.run()
    assert (status, "Traceback" in said) == (0, False), f"{kind}, {fault}: {said}"
    assert desk.result == wanted, f"{kind}, {fault}: {said}"
    assert not [*desk.folder.rglob("*.lock")]


def answer(body: dict[str, Any]) -> str:
    """Reply with something of the last turn, more of it the more demos are shown."""
    messages = body["messages"]
    return f"about {messages[-1]['content'][-5:] * (len(messages) % 3)}"


def model(whole: dict[str, Any], tiny_model: Any) -> Any:
    """Return what makes the one small model that all rounds train."""

    def made() -> Path:
        if "model" not in whole:
            whole["model"] = tiny_model()
        return whole["model"]

    return made


def serve_on(desk: Desk, fault: str, draw: random.Random) -> None:
    """Let the fault happen to a server, and another server then answer the same; no record that was written is lost."""
    trace, log = desk.folder / "trace.jsonl", desk.folder / "requests.jsonl"
    with served(desk, most=draw.randrange(200, 3000) if fault == "full disk" else None) as server:
        good = [server.answer() for _ in range(draw.randint(1, 8))].count(True)
        assert good or fault == "full disk"
        if fault == "second process":
            other = desk.start(arguments=arguments(0))
            other.join(60)
            assert other.exitcode == 3
            assert f"is being written by process {server.process.pid};" in desk.said
        elif fault == "kill":
            threading.Thread(target=server.answer, daemon=True).start()
            time.sleep(draw.uniform(0, 0.05))
            server.process.kill()
            server.process.join()
    assert len([*read_objects(trace)]) >= good
    for path in (trace, log):
        content = path.read_bytes()
        if fault == "cut":
            content = content[: draw.randrange(len(content))]
        elif fault == "line":
            content += draw.choice([b'{"torn', *JUNK])
        path.write_bytes(content)
    kept = len([*read_objects(trace)])
    with served(desk) as server:
        assert server.answer()
    # Its one call, and the run.
    assert len([*read_objects(trace)]) == kept + 2
    assert not [*desk.folder.rglob("*.lock")]


def arguments(port: int) -> list[str]:
    return ["serve", "program.yaml", "--port", str(port), "--trace", "trace.jsonl", "--request-log", "requests.jsonl"]


class served:
    """A server of the desk's program, ready to be asked; leaving the context asks it to stop."""

    def __init__(self, desk: Desk, most: int | None = None) -> None:
        self.held = ExitStack()
        port = self.held.enter_context(reserved())
        self.url = f"http://127.0.0.1:{port}"
        self.desk, self.process = desk, desk.start(most, arguments(port))

    def __enter__(self) -> served:
        deadline = time.monotonic() + 60
        while self.process.is_alive() and time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return self
            except httpx.HTTPError:
                time.sleep(0.02)
        raise AssertionError(self.desk.said)

    def answer(self) -> bool:
        """Ask once; return whether it answered, or refused in JSON where the disk took no more."""
        try:
            found = httpx.post(f"{self.url}/run", json={"text": "a"}, timeout=30)
        except httpx.HTTPError:
            return False
        if found.status_code != 200:
            assert found.json()["error"]["kind"] == "server", found.text
            return False
        assert found.json()["outputs"] == {"label": answer({"messages": [{"content": "a"}] * 2})}
        return True

    def __exit__(self, *exception: object) -> None:
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(60)
            assert self.process.exitcode == 0, self.desk.said
        assert "Traceback" not in self.desk.said
        self.held.close()
