"""`run --out` runs no row again that has called a tool that writes, unless it is asked to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.functional.traced import calls
from tests.waiting import wait_until

pytestmark = pytest.mark.kill

TOOLS = """
import pathlib, time

SENT = pathlib.Path(__file__).with_name("sent")

def send(text: str) -> str:
    with SENT.open("a") as file:
        file.write(text + "\\n")
    return text

def fail(text: str) -> str:
    mend = pathlib.Path(__file__).with_name("mended")
    if text == "slow" and not mend.exists():
        time.sleep(60)
    if text == "bad" and not mend.exists():
        raise ValueError("it is bad")
    return text
"""
SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    tools: {send: {python: "./tools.py:send", effects: EFFECTS}, fail: {python: "./tools.py:fail"}}
    steps:
      send: {tool: send, with: {text: "${{ inputs.text }}"}}
      fail: {tool: fail, with: {text: "${{ steps.send.result }}"}}
    outputs: {text: "${{ steps.fail.result }}"}
"""


@pytest.fixture
def desk(write, tmp_path: Path) -> Any:
    def make(*texts: str, effects: str = "write") -> list[Any]:
        write(TOOLS, "tools.py")
        write("".join(json.dumps({"text": text}) + "\n" for text in texts), "rows.jsonl")
        spec = write(SPEC.replace("EFFECTS", effects))
        return ["run", spec, "--inputs", tmp_path / "rows.jsonl", "--out", tmp_path / "out.jsonl"]

    return make


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def sent(folder: Path) -> list[str]:
    return sorted((folder / "sent").read_text().split())


def test_a_row_that_failed_after_it_wrote_is_run_again_when_that_is_asked(cli, desk, tmp_path: Path) -> None:
    command = desk("a", "bad", "b")
    assert cli(*command)[0] == 1
    before = lines(tmp_path)
    assert [line.get("wrote") for line in before] == [None, True, None]
    (tmp_path / "mended").touch()
    status, _, err = cli(*command)
    assert status == 1
    assert "1 row that failed after a call of a tool that writes will not be run again" in err
    assert "row 1; --repeat-writes runs them too" in err
    assert "3 rows in" in err and "1 failed" in err
    assert lines(tmp_path) == before and sent(tmp_path) == ["a", "b", "bad"]
    assert cli(*command, "--repeat-writes")[0] == 0
    assert sent(tmp_path) == ["a", "b", "bad", "bad"]
    assert [line["outputs"] for line in lines(tmp_path)] == [{"text": text} for text in ("a", "bad", "b")]


def test_a_row_that_only_read_is_run_again(cli, desk, tmp_path: Path) -> None:
    command = desk("a", "bad", effects="read")
    assert cli(*command)[0] == 1
    (tmp_path / "mended").touch()
    assert cli(*command)[0] == 0
    assert sent(tmp_path) == ["a", "bad", "bad"]


def test_what_a_program_writes_with_fake_answers_is_nothing(cli, desk, tmp_path: Path) -> None:
    assert cli(*desk("a", "bad"), "--fake")[0] == 0
    assert not (tmp_path / "sent").exists()
    assert "wrote" not in (tmp_path / "out.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_row_that_was_cut_off_after_it_wrote_is_not_run_again(cli, desk, tmp_path: Path, how: signal.Signals) -> None:
    command = desk("a", "slow", "b")
    trace = ["--trace", tmp_path / "trace.jsonl"]
    main = [sys.executable, "-c", "from lmprog.cli.main import main; main()"]
    running = subprocess.Popen([*main, *map(str, (*command, *trace))], stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "sent").exists() and len(sent(tmp_path)) == 3, "the third call")
    # Each row has a line that marks it as cut off before its call, and one in its place when it has ended.
    wait_until(lambda: (tmp_path / "out.jsonl").read_text().count("\n") == 4, "the end of the first row")
    os.kill(running.pid, how)
    running.wait()
    (tmp_path / "mended").touch()
    status, _, err = cli(*command, *trace)
    # Row 2 had ended too, behind the slow one; nothing of it was kept, and it is not known what it came to.
    assert status == 1 and "2 rows that failed after a call" in err and "row 1, 2;" in err
    assert sent(tmp_path) == ["a", "b", "slow"]
    assert [(line["row"], line["error"] and line["error"][:23]) for line in lines(tmp_path)] == [
        (0, None),
        (1, "the command was cut off"),
        (2, "the command was cut off"),
    ]
    assert cli(*command, *trace, "--repeat-writes")[0] == 0
    assert sent(tmp_path) == ["a", "b", "b", "slow", "slow"]
    records = calls(tmp_path / "trace.jsonl")
    assert [(record["example"], record["tool"]) for record in records] == [
        (row, tool) for row in range(3) for tool in ("send", "fail")
    ]


def test_a_run_that_is_begun_again_drops_no_record_of_another_one(cli, desk, tmp_path: Path) -> None:
    command, trace = desk("a", "b", effects="read"), ["--trace", tmp_path / "trace.jsonl"]
    assert cli(*command, *trace)[0] == 0
    other = [*command[:-1], tmp_path / "other.jsonl"]
    assert cli(*other, *trace)[0] == 0
    whole = (tmp_path / "trace.jsonl").read_text()
    # As a kill leaves it that came before the first line.
    (tmp_path / "other.jsonl").write_text("")
    assert cli(*other, *trace)[0] == 0
    records = calls(tmp_path / "trace.jsonl")
    assert [record["example"] for record in records] == [0, 0, 1, 1] * 2
    assert (tmp_path / "trace.jsonl").read_text()[: len(whole) // 2] == whole[: len(whole) // 2]
