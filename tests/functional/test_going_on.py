"""Going on with what an earlier command began: only with the same things, only as the one writer, and losing nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

LMPROG = Path(sys.executable).with_name("lmprog")
SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}"}
    lms: {lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: k, cache: {folder: kept}}}
    modules: {sort: {lm: lm, inputs: {text: str}, outputs: {label: str}, instructions: Sort.}}
    steps: {sort: {module: sort, with: {text: "${{ inputs.text }}"}}}
    data: {train: train.jsonl, dev: train.jsonl, test: train.jsonl}
    metrics: {exact: {python: "./metrics.py:exact", with: {label: "${{ outputs.label }}", row: "${{ row.text }}"}}}
    optimize: {metric: exact, tune: {sort: [instructions, demos]}, stages: [{bootstrap: {rows: 4, sets: 2}}]}
"""
FAILURE = (401, {}, json.dumps({"error": {"message": "who are you"}}))


@pytest.fixture
def spec(write, provider, monkeypatch) -> Path:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    monkeypatch.setattr("lmprog.lms.api.FIRST_WAIT", 0.0)
    provider.otherwise = lambda text: f"about {text}"
    write("def exact(label, row):\n    return label == 'about ' + row\n", "metrics.py")
    rows(write, 8, "train.jsonl")
    return write(SPEC.replace(", cache: {folder: kept}", ""))


def rows(write: Callable[..., Path], count: int, name: str = "rows.jsonl", word: str = "row") -> Path:
    return write("".join(json.dumps({"text": f"{word} {number}"}) + "\n" for number in range(count)), name)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# run --out


def test_rows_of_another_program_or_file_are_not_mixed(cli, spec, write, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    part = rows(write, 3, "part.jsonl")
    assert cli("run", spec, "--inputs", part, "--out", out)[0] == 0
    before = out.read_bytes()
    other = write(SPEC.replace("Sort.", "Guess.").replace(", cache: {folder: kept}", ""), "other.yaml")
    for command, key in (
        (("run", other, "--inputs", part), "modules.sort.instructions"),
        (("run", spec, "--inputs", rows(write, 3, "strange.jsonl", "line")), "--inputs"),
        (("run", spec, "--inputs", rows(write, 2, "fewer.jsonl")), "--inputs"),
        (("run", spec, "--inputs", part, "--seed", 4), "--seed"),
        (("run", spec, "--inputs", part, "--fake"), "--fake"),
        (("run", spec, "--inputs", part, "--set", "lms.lm.params.max_tokens=3"), "lms.lm.params"),
        (("run", spec, "--inputs", part, "--lm", "lm=openai/other"), "lms.lm.model"),
    ):
        status, said, err = cli(*command, "--out", out)
        assert (status, said, out.read_bytes()) == (2, "", before)
        assert f"{out} was begun from something else: `{key}` is" in err and "name another file" in err


def test_rows_added_at_the_end_are_run(cli, spec, write, tmp_path: Path, provider) -> None:
    out = tmp_path / "out.jsonl"
    cli("run", spec, "--inputs", rows(write, 3), "--out", out)
    status, _, err = cli("run", spec, "--inputs", rows(write, 5), "--out", out, "--set", "lms.lm.limits.concurrency=2")
    assert (status, err) == (0, f"{out} holds 3 of 5 rows; going on with the rest\n5 rows in {out}\n")
    assert [line["row"] for line in lines(out)] == [*range(5)] and len(provider.requests) == 5


def test_failed_rows_are_run_again_and_the_status_is_that_of_the_file(cli, spec, write, tmp_path, provider) -> None:
    out, given = tmp_path / "out.jsonl", rows(write, 5)
    provider.otherwise = lambda text: FAILURE if text in ("row 1", "row 3") else f"about {text}"
    assert cli("run", spec, "--inputs", given, "--out", out)[0] == 3
    status, _, err = cli("run", spec, "--inputs", given, "--out", out)
    assert (
        status == 3
        and "5 of 5 rows; going on with the rest, and with 2 that failed" in err
        and err.endswith(", 2 failed\n")
    )
    assert [line["row"] for line in lines(out)] == [*range(5)]
    provider.otherwise = lambda text: FAILURE if text == "row 3" else f"about {text}"
    assert cli("run", spec, "--inputs", given, "--out", out)[0] == 3
    provider.otherwise, asked = lambda text: f"about {text}", len(provider.requests)
    assert cli("run", spec, "--inputs", given, "--out", out)[0] == 0
    assert len(provider.requests) == asked + 1
    assert lines(out) == [{"row": n, "outputs": {"label": f"about row {n}"}, "error": None} for n in range(5)]
    assert cli("run", spec, "--inputs", given, "--out", out)[0] == 0 and len(provider.requests) == asked + 1


def test_unreadable_rows_are_said(cli, spec, write, tmp_path, provider) -> None:
    numbers = write(SPEC.replace("outputs: {label: str}", "outputs: {label: int}"), "numbers.yaml")
    provider.otherwise = lambda text: "5" if text in ("row 0", "row 7") else "many"
    status, _, err = cli("run", numbers, "--inputs", rows(write, 8), "--out", tmp_path / "out.jsonl")
    assert (status, err) == (0, f"8 rows in {tmp_path / 'out.jsonl'}, 6 with a reply that could not be read\n")


def test_broken_lines_of_an_out_file_cost_only_their_rows(cli, spec, write, tmp_path: Path, provider) -> None:
    out, given = tmp_path / "out.jsonl", rows(write, 6)
    cli("run", spec, "--inputs", given, "--out", out)
    whole = out.read_bytes()
    broken = whole.splitlines(keepends=True)
    broken[1:1] = [
        b"\n",
        b"garbage\n",
        b"\0\0\0\n",
        b"[1,2]\n",
        b'{"row": 99, "outputs": {}, "error": null}\n',
        broken[4],
    ]
    broken[8] = b'{"row": 2, "outp\n'  # where row 2 stood
    out.write_bytes(b"".join(broken))
    asked = len(provider.requests)
    status, _, err = cli("run", spec, "--inputs", given, "--out", out)
    assert status == 0 and "could not be read and are left out" in err and "their rows are run again" in err
    assert out.read_bytes() == whole and len(provider.requests) == asked + 1


def test_a_file_without_what_it_is_made_from_is_left_alone(cli, spec, write, tmp_path: Path) -> None:
    out, given = tmp_path / "out.jsonl", rows(write, 3)
    cli("run", spec, "--inputs", given, "--out", out)
    (tmp_path / "out.jsonl.meta.json").rename(tmp_path / "away")
    before = out.read_bytes()
    status, _, err = cli("run", spec, "--inputs", given, "--out", out)
    assert (status, out.read_bytes()) == (2, before) and "out.jsonl.meta.json" in err and "name another file" in err
    out.unlink()
    assert cli("run", spec, "--inputs", given, "--out", out)[0] == 0 and out.read_bytes() == before


def test_two_processes_on_one_out_file(spec, write, tmp_path: Path, provider) -> None:
    provider.held_after = 4
    command = [LMPROG, "run", spec, "--inputs", rows(write, 40), "--out", tmp_path / "out.jsonl", "--concurrency", "2"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "out.jsonl")
    second = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert second.returncode == 3 and f"is being written by process {first.pid};" in second.stderr
    third = subprocess.run(
        [LMPROG, "run", spec, "--input", "text=x", "--trace", tmp_path / "out.jsonl"], capture_output=True, text=True
    )
    assert third.returncode == 2 and "out.jsonl" in third.stderr  # rows are no trace, whoever writes them
    assert all(request["messages"][-1]["content"] != "x" for request in provider.requests)
    provider.released.set()
    assert first.wait() == 0
    assert [line["row"] for line in lines(tmp_path / "out.jsonl")] == [*range(40)]


def wait_for(path: Path, holding: str = "\n") -> None:
    wait_until(lambda: path.exists() and holding in path.read_text(), f"{holding!r} in {path}")


# eval --out and recordings


def test_a_finished_evaluation_stays_until_the_next_is_whole(spec, tmp_path: Path, provider, cli) -> None:
    out = tmp_path / "scores.jsonl"
    assert cli("eval", spec, "--out", out)[0] == 0
    before, kept = out.read_bytes(), (tmp_path / "scores.jsonl.meta.json").read_text()
    assert json.loads(kept)["made_from"]["data.test"]
    provider.otherwise = lambda text: time.sleep(60) if text == "row 5" else f"of {text}"
    running = subprocess.Popen(
        [LMPROG, "eval", spec, "--out", out, "--concurrency", "2"], stderr=subprocess.PIPE, text=True
    )
    wait_for(tmp_path / "scores.jsonl.part", '"row": 3')
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, out.read_bytes()) == (130, before)
    assert f"what is scored so far stands in {out}.part" in err
    assert (tmp_path / "scores.jsonl.meta.json").read_text() == kept
    provider.otherwise = lambda text: f"of {text}"
    assert cli("eval", spec, "--out", out)[0] == 0
    assert len(lines(out)) == 8 and out.read_bytes() != before and not Path(f"{out}.part").exists()


def test_a_miss_of_a_recording_names_what_has_changed(cli, spec, write, tmp_path: Path) -> None:
    tested = write(
        "lmprog: 1\nextends: ./program.yaml\ntests: [{name: one, inputs: {text: a}, expect: {label: about a}}]\n",
        "t.yaml",
    )
    recording = tmp_path / "calls.jsonl"
    assert cli("test", tested, "--record", recording)[0] == 0
    assert cli("test", tested, "--replay", recording)[0] == 0
    status, _, err = cli("test", tested, "--replay", recording, "--set", "modules.sort.instructions=Guess.")
    assert status == 1 and f"since {recording} was recorded: `modules.sort.instructions` is changed" in err


# caches


@pytest.mark.parametrize(
    "change",
    [
        "json_set(answer, '$.new_field', 1)",
        "json_remove(answer, '$.text')",
        "json_set(answer, '$.text', 7)",
        "json_set(answer, '$.usage.new', 1)",
        "json_set(answer, '$.tool_calls', 'x')",
        "'[1]'",
        "'no JSON'",
        "'" + "[" * 20_000 + "'",
    ],
    ids=["a field more", "a field less", "another type", "in usage", "calls", "a list", "no JSON", "deep"],
)
def test_a_row_of_a_cache_that_is_no_reply_counts_as_absent(cli, write, spec, tmp_path, provider, change: str) -> None:
    kept = write(SPEC.replace("kept", str(tmp_path / "kept")))
    run = ("run", kept, "--input", "text=a")
    first = cli(*run)
    with sqlite3.connect(tmp_path / "kept" / "answers.sqlite") as database:
        database.execute(f"UPDATE answers SET answer = {change}")
    assert cli(*run) == first and len(provider.requests) == 2
    assert cli(*run) == first and len(provider.requests) == 2
    assert not [*(tmp_path / "kept").glob("*.broken*")]


# optimize


def optimize(*more: object) -> list[str]:
    return [str(word) for word in (LMPROG, "optimize", *more)]


def test_two_processes_in_one_run_folder(spec, tmp_path: Path, provider) -> None:
    provider.held_after = 8
    folder = tmp_path / "run"
    first = subprocess.Popen(optimize(spec, "--run-dir", folder, "--set", "lms.lm.limits.concurrency=1"))
    wait_for(folder / "journal.jsonl")
    for more in ([], ["--resume"]):
        second = subprocess.run(optimize(spec, "--run-dir", folder, *more), capture_output=True, text=True)
        assert second.returncode == 3 and f"{folder} is being written by process {first.pid};" in second.stderr
    provider.released.set()
    assert first.wait() == 0
    events = lines(folder / "journal.jsonl")
    keys = [event["key"] for event in events if event["event"] == "finished"]
    assert len(keys) == len(set(keys)) and not (folder / ".lock").exists()


def test_set_and_lm_of_the_first_command_hold_and_changed_labels_are_refused(
    cli, spec, write, tmp_path, provider
) -> None:
    folder = tmp_path / "run"
    command = ("optimize", spec, "--run-dir", folder, "-o", tmp_path / "out.yaml")
    test = rows(write, 4, "test.jsonl")
    assert cli(*command, "--set", f"data.test={test}", "--lm", "lm=openai/other")[0] == 0
    asked = len(provider.requests)
    assert {request["model"] for request in provider.requests} == {"other"}
    assert cli("optimize", spec, "--run-dir", folder, "--resume")[0] == 0
    assert len(provider.requests) == asked and not (tmp_path / "program.tuned.yaml").exists()
    rows(write, 4, "test.jsonl", "line")
    status, _, err = cli("optimize", spec, "--run-dir", folder, "--resume")
    assert status == 2 and "`data.test` is changed" in err and "--restart-stage test" in err
    status, _, err = cli("optimize", spec, "--run-dir", folder, "--restart-stage", "test")
    assert status == 0 and "was finished before; kept" in err
    status, _, err = cli("optimize", spec, "--run-dir", folder, "--resume", "--lm", "lm=openai/third")
    assert status == 2 and "`lms.lm.model` is changed" in err


BROKEN = {
    "blank": "\n",
    "garbage": "garbage\n",
    "NUL": "\0\0\0\n",
    "list": "[1,2]\n",
    "no event": '{"x":1}\n',
    "torn": '{"event": "fin\n',
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_line_of_a_journal_is_passed_over_and_said(cli, spec, tmp_path: Path, provider, fault: str) -> None:
    folder = tmp_path / "run"
    assert cli("optimize", spec, "--run-dir", folder)[0] == 0
    tuned, asked = (tmp_path / "program.tuned.yaml").read_bytes(), len(provider.requests)
    journal = folder / "journal.jsonl"
    whole = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([whole[0], BROKEN[fault], *whole[1:]]))
    status, _, err = cli("optimize", spec, "--run-dir", folder, "--resume")
    assert status == 0 and f"{journal}: 1 line could not be read and is left out: 2 (1 " in err
    assert (tmp_path / "program.tuned.yaml").read_bytes() == tuned and len(provider.requests) == asked
    status, _, err = cli("candidates", folder)
    assert status == 0 and "1 line could not be read" in err
    assert cli("view", folder, "--export", tmp_path / "page.html")[0] == 0
    assert "1 line could not be read" in (tmp_path / "page.html").read_text()


def test_half_a_surrogate_pair_in_a_row_ends_no_optimization(cli, spec, write, tmp_path: Path, provider) -> None:
    write('{"text": "row \\ud83d"}\n' * 2 + '{"text": "row 2"}\n' * 4, "train.jsonl")
    for more in ([], ["--resume"]):
        assert cli("optimize", spec, "--run-dir", tmp_path / "run", *more)[0] == 0


def test_a_folder_that_an_overlay_cannot_name_is_refused_before_anything_is_spent(
    cli, spec, tmp_path: Path, provider
) -> None:
    status, _, err = cli("optimize", spec, "--run-dir", tmp_path / "run\udcff")
    assert status == 2 and "run\\udcff', which holds half of a surrogate pair, U+DCFF" in err
    assert not provider.requests and not (tmp_path / "run\udcff").exists()
    assert cli("optimize", spec, "--run-dir", tmp_path / "run", "-o", tmp_path / "a\udcff" / "b.yaml")[0] == 0


def test_rows_that_change_while_they_are_run_end_the_run(cli, spec, write, tmp_path: Path, provider) -> None:
    out, given = tmp_path / "out.jsonl", rows(write, 6)
    before = given.read_text()

    def answer(text: str) -> str:
        if text == "row 3":
            given.write_text(before.replace("row 5", "row five"))
        return f"about {text}"

    provider.otherwise = answer
    status, _, err = cli("run", spec, "--inputs", given, "--out", out, "--concurrency", 1)
    assert status == 2 and f"{given} has changed while this command was at work, so nothing more is kept" in err
    assert [line["row"] for line in lines(out)] == [0, 1, 2]
    provider.otherwise = lambda text: f"about {text}"
    given.write_text(before)
    assert cli("run", spec, "--inputs", given, "--out", out)[0] == 0
    assert [line["outputs"]["label"] for line in lines(out)] == [f"about row {number}" for number in range(6)]
