"""Who may read what a run leaves behind, and demos of private rows that must not land in an overlay."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PRIVATE = "inputs: {a: {type: int, private: true}, b: int}"


def modes(folder: Path) -> Iterator[tuple[str, int]]:
    for path in [folder, *folder.rglob("*")]:
        yield str(path.relative_to(folder)), stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_run_folder_is_its_owners(cli, sums, tmp_path: Path) -> None:
    spec = sums("bootstrap: {rows: 4, sets: 2}")
    run = tmp_path / "runs/one"
    assert cli("optimize", spec, "--run-dir", run)[0] == 0
    found = dict(modes(run))
    assert {"journal.jsonl", "run.json", "report.json"} <= set(found)
    assert {name: mode for name, mode in found.items() if mode != (0o700 if (run / name).is_dir() else 0o600)} == {}
    # What goes into the repository is as other files there.
    assert stat.S_IMODE(spec.with_name("program.tuned.yaml").stat().st_mode) == 0o644


def test_a_folder_that_was_there_keeps_its_mode(cli, sums, tmp_path: Path) -> None:
    run = tmp_path / "there"
    run.mkdir(0o755)
    (run / "other.sh").touch(0o755)
    assert cli("optimize", sums("bootstrap: {rows: 4, sets: 2}"), "--run-dir", run)[0] == 0
    found = dict(modes(run))
    assert (found["."], found["other.sh"], found["journal.jsonl"]) == (0o755, 0o755, 0o600)


def test_traces_and_recordings_are_their_owners(cli, sums, tmp_path: Path) -> None:
    spec = sums("bootstrap")
    old = tmp_path / "trace.jsonl"
    old.touch(0o644)
    spec.write_text(spec.read_text() + "tests: [{inputs: {a: 1, b: 2}, expect: {sum: 3}}]\n")
    assert cli("run", spec, "--input", "a=1", "--input", "b=2", "--trace", old)[0] == 0
    cli("test", spec, "--record", tmp_path / "recorded.jsonl")
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("trace.jsonl", "recorded.jsonl")} == {0o600}


def test_demos_of_private_rows_want_a_reason(cli, sums, tmp_path: Path) -> None:
    spec = sums("bootstrap: {rows: 4, sets: 2}")
    private = spec.read_text().replace("inputs: {a: int, b: int}\noutputs", f"{PRIVATE}\noutputs")
    private = private.replace("{model: openai/planner,", "{model: openai/planner, trusted: true,")
    private = private.replace("{model: openai/adder,", "{model: openai/adder, trusted: true,")
    private = private.replace("  proposer: writer\n", "")
    assert PRIVATE in private
    spec.write_text(private)
    status, _, err = cli("optimize", spec, "--run-dir", tmp_path / "one")
    assert status == 1
    assert "[LMP402]" in err and not (tmp_path / "one").exists()
    spec.write_text(private.replace("optimize:\n", "optimize:\n  declassify: the numbers are drawn\n"))
    assert cli("optimize", spec, "--run-dir", tmp_path / "two")[0] == 0
    assert "demos:" in spec.with_name("program.tuned.yaml").read_text()
    assert cli("check", spec.with_name("program.tuned.yaml"))[0] == 0
    spec.write_text(private)
    status, out, _ = cli("check", spec.with_name("program.tuned.yaml"))
    assert status == 1
    assert "stand in this overlay" in out
