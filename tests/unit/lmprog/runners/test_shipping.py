"""A program on its way to workers: paths, and what is not sent."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import lmprog
from lmprog.errors import UsageError
from lmprog.runners import opened
from lmprog.runners.ray_line import Line
from lmprog.runners.shipping import Built, sendable, shipped
from lmprog.runtime.runner import HERE

SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    lms: {lm: {model: LM}}
    modules: {say: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Say it.}}
"""
SERVED = "openai/x, api_base: 'http://127.0.0.1:1/v1', api_key: KEY, limits: {concurrency: 2}"


def test_a_program_is_built_once_and_its_lms_are_shared(write) -> None:
    program = lmprog.load(write(SPEC.replace("LM", SERVED.replace("KEY", "none"))))
    packed = shipped(program, program.plan.path.parent)
    built = Built()
    made = built.build(packed.digest, packed.data)
    assert built.get(packed.digest) is made
    assert made.plan.lms["lm"].limits.concurrency == 2
    assert packed.concurrency == 2
    again = built.build("other", packed.data)
    assert again.lms["lm"] is made.lms["lm"]
    assert shipped(program, program.plan.path.parent).digest == packed.digest


def test_the_program_that_was_not_used_longest_is_given_up(write) -> None:
    program = lmprog.load(write(SPEC.replace("LM", SERVED.replace("KEY", "none"))))
    data = shipped(program, Path()).data
    built = Built(most=2)
    for digest in ("a", "b"):
        built.build(digest, data)
    assert built.get("a") is not None
    built.build("c", data)
    assert [digest for digest in ("a", "b", "c") if built.get(digest)] == ["a", "c"]


def test_paths_of_its_folder_are_found_where_it_was_sent(write, tmp_path: Path, monkeypatch) -> None:
    write("def same(said, row): return said == row\n", "here/metrics.py")
    metric = "\n    metrics: {same: {python: './metrics.py:same', with: {said: '${{ outputs.said }}', row: '${{ row.said }}'}}}"
    path = write(
        SPEC.replace("LM", SERVED.replace("KEY", "none")) + metric.replace("\n    ", "\n    "), "here/program.yaml"
    )
    packed = shipped(lmprog.load(path), path.parent)
    (tmp_path / "here").rename(tmp_path / "sent")
    monkeypatch.chdir(tmp_path / "sent")
    plan = Built().build(packed.digest, packed.data).plan
    assert plan.path == tmp_path / "sent/program.yaml"
    assert plan.metrics["same"].computed_by.file == tmp_path / "sent/metrics.py"


def test_no_key_is_sent(write, monkeypatch) -> None:
    monkeypatch.setenv("DESK_KEY", "sk-0123456789abcdef")
    program = lmprog.load(write(SPEC.replace("LM", SERVED.replace("KEY", '"${{ env.DESK_KEY }}"'))))
    assert b"0123456789abcdef" not in shipped(program, Path()).data


def test_a_model_in_this_process_is_refused(write) -> None:
    with pytest.raises(UsageError, match="runs in this process"):
        shipped(lmprog.load(write(SPEC.replace("LM", "embedded/smollm2-135m"))), Path())


def test_an_lm_that_is_an_object_is_refused(write, scripted) -> None:
    program = lmprog.load(write(SPEC.replace("LM", "openai/x")), lms={"lm": scripted(lambda request: "a")})
    with pytest.raises(UsageError, match="an object of this process"):
        shipped(program, Path())
    shipped(program.faked(), Path())


def test_tools_that_write_are_refused(write) -> None:
    write("def tell(text: str) -> str: return text\n", "tools.py")
    tool = """
    tools: {tell: {python: './tools.py:tell', effects: write}}
    steps: {a: {tool: tell, with: {text: "${{ inputs.text }}"}}}
    outputs: {said: "${{ steps.a.result }}"}
"""
    program = lmprog.load(write(SPEC.replace("LM", "openai/x") + tool))
    with pytest.raises(UsageError, match="'tell' writes"):
        shipped(program, Path())


@pytest.mark.parametrize(
    ("on", "workers", "said"),
    [
        ("moon", None, "it is one of here, ray"),
        (None, 3, "--on ray"),
        ("here:there", None, "--on ray"),
        ("ray", 0, "0 workers"),
    ],
)
def test_places_that_there_are_not(on: str | None, workers: int | None, said: str) -> None:
    with pytest.raises(UsageError, match=said), opened(on, workers, Path()):
        pass


def test_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setattr("lmprog.extras.is_installed", lambda package: package != "ray")
    with (
        pytest.raises(UsageError, match=r"--on ray needs the extra 'ray' .*pip install 'lmprog\[ray\]'"),
        opened("ray", 2, Path()),
    ):
        pass


def test_here_is_the_place_without_a_name() -> None:
    with opened(None, None, Path()) as runner:
        assert runner is HERE


class Idle:
    """A line's other end, which keeps what is to be looked at."""

    def __init__(self) -> None:
        self.lines = SimpleQueue[Any]()


def test_a_job_that_is_cancelled_before_it_was_sent_is_not_sent() -> None:
    async def work() -> None:
        line = Line(0, None, Idle(), lambda: None)  # type: ignore[arg-type]
        jobs = [asyncio.create_task(line.done("digest", name)) for name in (b"first", b"second")]
        await asyncio.sleep(0)
        jobs[0].cancel()
        await asyncio.gather(jobs[0], return_exceptions=True)
        assert line.outbox() == ([(1, "digest", b"second")], [])
        jobs[1].cancel()
        await asyncio.gather(jobs[1], return_exceptions=True)
        assert line.outbox() == ([], [1])

    asyncio.run(work())


@pytest.mark.slow
def test_a_function_without_a_name_of_its_own_goes_by_its_code() -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    factor = 3
    assert pickle.loads(sendable((2, lambda value: value * factor)))[1](5) == 15


@pytest.mark.parametrize(("at_hand", "found"), [(True, "here/cache"), (False, "sent/cache")])
def test_a_folder_that_a_run_makes_is_beside_the_program(write, tmp_path: Path, monkeypatch, at_hand, found) -> None:
    lm = SERVED.replace("KEY", "none") + ", cache: {folder: cache}"
    path = write(SPEC.replace("LM", lm), "here/program.yaml")
    packed = shipped(lmprog.load(path), path.parent)
    (tmp_path / "sent").mkdir()
    if not at_hand:
        (tmp_path / "here").rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "sent")
    assert Built().build(packed.digest, packed.data).plan.lms["lm"].cache.folder == tmp_path / found
