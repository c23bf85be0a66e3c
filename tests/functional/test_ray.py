"""Runs on the workers of a Ray cluster of three nodes on this machine: the same results as here, also where workers die.

LMPROG_KILLS=20 kills workers at 20 moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog.runtime.program import MAX_LOOKAHEAD

pytest.importorskip("ray", reason="needs the extra 'ray'")

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("LMPROG_KILLS", "2"))
STAGES = (
    "bootstrap: {sets: 4, demos: 2, rows: 8}",
    "prompt_search: {trials: 5, proposals: 2, demos: [2], demo_sets: 3, bootstrap_rows: 8, at_once: 2}",
    "gepa: {max_metric_calls: 110, minibatch: 4, merges: 2}",
)
TIMES = {"seconds", "line"}
DESK = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    lms: {lm: {model: openai/x, api_base: "BASE", api_key: "${{ env.DESK_KEY }}", limits: {tries: 1}}}
    modules: {say: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Say it.}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of three nodes, each with room for one worker."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["DESK_KEY"] = "key-of-the-environment"
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    # On a crowded machine a node may be silent for a minute.
    patient = {"health_check_timeout_ms": 120_000, "health_check_period_ms": 60_000}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False, "_system_config": patient})
    for _ in range(2):
        made.add_node(**node)
    yield str(made.address)
    made.shutdown()
    del os.environ["DESK_KEY"]


@pytest.fixture
def on_three(cluster: str) -> list[str]:
    return ["--on", f"ray:{cluster}", "--workers", "3"]


@pytest.fixture
def desk(write, provider) -> Path:
    provider.answer = lambda body: f"{body['messages'][-1]['content']} {body['seed']}"
    return write(DESK.replace("BASE", provider.url))


@pytest.fixture
def optimized(sums, cli, tmp_path: Path) -> Callable[..., tuple[str, list[Any], dict[str, Any]]]:
    """Optimizes by three stages, and returns the overlay, the events of the journal, and the report."""

    def run(name: str, *more: str) -> tuple[str, list[Any], dict[str, Any]]:
        spec = sums(STAGES[0])
        later = "".join(f"\n    - {stage}" for stage in STAGES[1:])
        spec.write_text(spec.read_text().rstrip() + later + "\n")
        overlay, folder = tmp_path / f"{name}.yaml", tmp_path / name
        status, _, err = cli("optimize", spec, "--run-dir", folder, "-o", overlay, *more)
        assert status == 0, err
        events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        report = json.loads((folder / "report.json").read_text())
        return overlay.read_text().replace(name, "NAME"), events, report

    return run


def without(value: Any, names: set[str], run: str = "") -> Any:
    """The value without some keys at any depth, and with the name of the run replaced."""
    if isinstance(value, dict):
        return {key: without(each, names, run) for key, each in value.items() if key not in names}
    if isinstance(value, list):
        return [without(each, names, run) for each in value]
    return value.replace(run, "NAME") if isinstance(value, str) and run else value


def test_an_optimization_is_the_same_on_three_nodes(optimized, on_three, provider) -> None:
    overlay, events, report = optimized("here")
    asked = len(provider.requests)
    other = optimized("there", *on_three)
    assert "instructions:" in overlay or "demos:" in overlay
    assert other[0] == overlay
    assert without(other[1], TIMES, "there") == without(events, TIMES, "here")
    assert without(other[2]["spent"], TIMES) == without(report["spent"], TIMES)
    assert len(provider.requests) == 2 * asked


@pytest.mark.kill
def test_workers_may_be_killed_at_any_moment(optimized, on_three, provider) -> None:
    overlay, events, _ = optimized("here")
    moments = random.Random("kills")
    asked = len(provider.requests)
    wanted = sorted(moments.sample(range(asked // 20, asked), KILLS))
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        for moment in wanted:
            while len(provider.requests) < asked + moment:
                if ended.wait(0.001):
                    return
            while not (found := workers()) and not ended.is_set():
                time.sleep(0.01)
            if found:
                killed.append(moments.choice(found))
                os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        other = optimized("there", *on_three)
    finally:
        ended.set()
        killer.join()
    assert len(killed) == KILLS
    assert other[0] == overlay
    # A run that was begun twice may have been paid for twice.
    counted = {*TIMES, "spent", "largest"}
    assert without(other[1], counted, "there") == without(events, counted, "here")


def workers() -> list[int]:
    """The processes of the workers of this process's cluster, by the name that Ray gives them."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if (process.cmdline() or [""])[0].startswith("ray::Worker"):
                found.append(process.pid)
    return found


def test_rows_and_their_key(desk: Path, on_three, cli, provider, tmp_path: Path) -> None:
    rows = [{"text": f"row {number}"} for number in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, more in (("here", []), ("there", on_three)):
        status, _, err = cli("run", desk, "--inputs", tmp_path / "rows.jsonl", "--out", tmp_path / name, *more)
        assert status == 0, err
    assert (tmp_path / "there").read_text() == (tmp_path / "here").read_text()
    assert set(provider.keys) == {"Bearer key-of-the-environment"}
    assert len(provider.requests) == 120


def test_a_budget_of_100_calls_is_never_101(desk: Path, on_three, cli, provider, tmp_path: Path) -> None:
    rows = [{"text": f"row {number}"} for number in range(150)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["--budget", "lm_calls=100", *on_three]
    status, _, err = cli("run", desk, "--inputs", tmp_path / "rows.jsonl", "--out", tmp_path / "out", *more)
    assert (status, len(provider.requests)) == (1, 100)
    assert "the budget of 100 lm calls is spent" in err


def test_rows_are_read_as_they_are_needed(desk: Path, cluster: str, provider) -> None:
    from lmprog.runners import opened

    taken = done = most = 0

    def rows() -> Iterator[dict[str, str]]:
        nonlocal taken
        for number in range(600):
            taken += 1
            yield {"text": f"row {number}"}

    async def run(program: lmprog.Program) -> None:
        nonlocal done, most
        async for result in program.stream(rows(), concurrency=12):
            assert result.outputs is not None
            done, most = done + 1, max(most, taken - done)

    with opened(f"ray:{cluster}", 3, desk.parent) as runner:
        asyncio.run(run(lmprog.load(desk).with_runner(runner)))
    assert (done, len(provider.requests)) == (600, 600)
    # Results that wait for a slow row, and one row that is read in advance.
    assert most <= MAX_LOOKAHEAD * 12 + 1


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [("127.0.0.1:PORT", 3, "cannot connect to the Ray cluster"), ("//127.0.0.1:PORT", 2, "ray job submit")],
)
def test_addresses_of_no_cluster(
    address: str, status: int, said: str, desk: Path, cli, closed_port: int, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DESK_KEY", "none")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    on = f"ray:{address.replace('PORT', str(closed_port))}"
    found = cli("run", desk, "--inputs", tmp_path / "rows.jsonl", "--out", tmp_path / "out", "--on", on)
    assert found[0] == status
    assert said in found[2]


def test_more_workers_than_the_cluster_has_room_for(desk: Path, cluster: str, cli, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    more = ["--on", f"ray:{cluster}", "--workers", "4"]
    status, _, err = cli("run", desk, "--inputs", tmp_path / "rows.jsonl", "--out", tmp_path / "out", *more)
    assert status == 2
    assert "3 CPUs" in err
