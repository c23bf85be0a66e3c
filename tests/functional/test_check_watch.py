"""`lmprog check` of folders, and `--watch`: the check that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from tests.waiting import PATIENCE

CLI = (sys.executable, "-c", "from lmprog.cli.main import main; main()")
GOOD = 'lmprog: 1\ninputs: {text: str}\noutputs: {said: "${{ inputs.text }}"}\nsteps: {}\n'
BAD = GOOD.replace("inputs.text", "inputs.txet")


def check(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, "check", *options], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_a_folder_stands_for_the_programs_below_it(write: Callable[..., Path], tmp_path: Path) -> None:
    write(GOOD, "a.yaml")
    write(BAD, "deep/down/b.yml")
    write("services: {}\n", "compose.yaml")
    write(BAD, ".hidden/c.yaml")
    write(BAD, "node_modules/d.yaml")
    done = check(tmp_path, ".")
    assert done.returncode == 1 and done.stdout.count("LMP201") == 1 and "deep/down/b.yml:3" in done.stdout
    # A file that is named twice is checked once, and one that is named itself wants the key `lmprog`.
    done = check(tmp_path, "a.yaml", ".", "deep", "--format", "json")
    assert done.stdout.count('"code"') == 1
    assert check(tmp_path, "compose.yaml").returncode == 1
    done = check(tmp_path, "deep/down/..", "a.yaml", "--strict", "--format", "github")
    assert done.stdout.count("::error") == 1


@pytest.mark.slow
def test_a_folder_without_programs_and_odd_options_are_wrong_usage(write: Callable[..., Path], tmp_path: Path) -> None:
    write("a: b\n", "empty/a.yaml")
    for options, said in (
        (("empty",), "empty holds no program"),
        (("empty", "--watch"), "empty holds no program"),
        (("--watch", "--fix", "empty"), "--watch shows findings as text"),
        (("--watch", "--format", "json", "empty"), "--watch shows findings as text"),
    ):
        done = check(tmp_path, *options)
        assert done.returncode == 2 and said in done.stderr and not done.stdout


class Watch:
    """A watch in a process of its own, with what it says once the findings are shown."""

    def __init__(self, folder: Path, *named: str) -> None:
        self.process = subprocess.Popen(
            [*CLI, "check", "--watch", *named], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.found: Queue[str] = Queue()
        self.said: Queue[str] = Queue()
        for stream, lines in ((self.process.stdout, self.found), (self.process.stderr, self.said)):
            threading.Thread(target=lambda stream=stream, lines=lines: [*map(lines.put, stream)], daemon=True).start()

    def next(self) -> str:
        """Return what is said below the next findings."""
        while "watching" not in (line := self.said.get(timeout=PATIENCE)):
            pass
        return line

    def until(self, said: str) -> None:
        """Wait until a check ends with these words: a change of several files may be seen in parts."""
        while said not in self.next():
            pass

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watch]]:
    started: list[Watch] = []

    def start(*named: str) -> Watch:
        started.append(Watch(tmp_path, *named))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a signal is sent")
def test_files_that_change_are_checked_again(
    write: Callable[..., Path], tmp_path: Path, watch: Callable[..., Watch]
) -> None:
    write("N = 1\n", "part.py")
    write("from part import N\ndef size(text: str) -> int:\n    return N\n", "tools.py")
    path = write(
        'lmprog: 1\ninputs: {text: str}\noutputs: {size: "${{ steps.go.result }}"}\n'
        'tools: {size: {python: "./tools.py:size"}}\nsteps: {go: {tool: size, with: {text: "${{ inputs.text }}"}}}\n'
    )
    good = path.read_text()
    at_work = watch("program.yaml")
    assert at_work.next().startswith("1 program: no findings (")
    path.write_text(good.replace("inputs.text", "inputs.txet"))
    at_work.until("1 program: 1 finding (")
    assert "LMP201" in at_work.found.get(timeout=PATIENCE)
    path.write_text("lmprog: [\n")  # what cannot be read is a finding too, and the watch goes on
    at_work.until("1 finding (")
    path.write_text(good)
    at_work.until("no findings")
    # A file that the program names, and one that it does not name: its tool imports it.
    write("from part import MORE\ndef size(text: str) -> int:\n    return MORE\n", "tools.py")
    at_work.until("1 finding (")
    write("MORE = 1\n", "part.py")
    at_work.until("no findings")
    path.unlink()
    at_work.until("1 finding (")
    path.write_text(good)
    at_work.until("no findings")
    assert at_work.end() == 130


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a signal is sent")
def test_programs_that_appear_in_a_folder_are_checked(
    write: Callable[..., Path], tmp_path: Path, watch: Callable[..., Watch]
) -> None:
    write(GOOD, "specs/a.yaml")
    at_work = watch("specs")
    assert at_work.next().startswith("1 program: no findings")
    write(BAD, "specs/inner/b.yaml")
    at_work.until("2 programs: 1 finding (")
    (tmp_path / "specs/inner/b.yaml").unlink()
    at_work.until("1 program: no findings")
    assert at_work.end() == 130
