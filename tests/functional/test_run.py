"""`lmprog run`: one input, many rows, going on after a cut, traces, dry runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.functional.traced import calls
from tests.waiting import PATIENCE, wait_until

LMPROG = Path(sys.executable).with_name("lmprog")
SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str, n: {type: int, default: 1}, tags: {type: "list[str]", default: []}}
    outputs: {label: "${{ steps.sort.label }}", n: "${{ inputs.n }}", tags: "${{ inputs.tags }}"}
    lms:
      lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}
    modules:
      sort: {lm: lm, inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}}
    steps:
      sort: {module: sort, with: {text: "${{ inputs.text }}"}}
"""


@pytest.fixture
def spec(write, provider, monkeypatch) -> Path:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    monkeypatch.setattr("lmprog.lms.api.FIRST_WAIT", 0.0)
    return write(SPEC)


@pytest.fixture
def rows(write) -> Path:
    return write("".join(json.dumps({"text": f"t{index}é", "n": index}) + "\n" for index in range(3)), "rows.jsonl")


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_input(cli, spec, provider) -> None:
    provider.replies = ["Refund."]
    status, out, err = cli("run", spec, "--input", "text=a=b: c", "--input", "n=4", "--input", "tags=[x, 'no']")
    assert (status, err) == (0, "")
    assert json.loads(out) == {"label": "refund", "n": 4, "tags": ["x", "no"]}
    assert provider.requests[0]["messages"][-1]["content"] == "a=b: c"


def test_rows_in_their_order_whatever_comes_first(cli, spec, rows, tmp_path, provider) -> None:
    def answer(text: str) -> str:
        time.sleep(0.2 if text.startswith("t0") else 0)
        return "billing" if text.startswith("t0") else "refund"

    provider.otherwise = answer
    out, trace = tmp_path / "new" / "out.jsonl", tmp_path / "trace.jsonl"
    status, said, err = cli("run", spec, "--inputs", rows, "--out", out, "--trace", trace, "--concurrency", 3)
    assert (status, said, err) == (0, "", f"3 rows in {out}\n")
    assert lines(out) == [
        {"row": row, "outputs": {"label": label, "n": row, "tags": []}, "error": None}
        for row, label in enumerate(["billing", "refund", "refund"])
    ]
    assert [(made["example"], made["text"], made["call"]) for made in calls(trace)] == [
        (0, "billing", 0),
        (1, "refund", 0),
        (2, "refund", 0),
    ]
    assert lines(trace)[0]["messages"][-1] == {"role": "user", "content": "t0é"}
    assert lines(trace)[0]["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 3,
        "usd": None,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
    }


@pytest.mark.slow
def test_a_run_goes_on_wherever_it_was_cut(cli, spec, rows, tmp_path) -> None:
    out, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    arguments = ("run", spec, "--inputs", rows, "--fake", "--out", out, "--trace", trace)
    assert cli(*arguments)[0] == 0
    whole = out.read_bytes()
    assert len(lines(out)) == 3
    for end in range(0, len(whole) + 1, 3):
        out.write_bytes(whole[:end])
        trace.unlink(missing_ok=True)
        kept = whole[:end].count(b"\n")
        status, _, err = cli(*arguments)
        assert status == 0
        assert out.read_bytes() == whole
        assert ("going on" in err) == (kept > 0)
        assert [made["example"] for made in calls(trace)] == list(range(kept, 3))


def test_a_file_that_no_run_wrote_is_left_alone(cli, spec, rows, write) -> None:
    for content in ("notes of mine\nthat matter", "notes", '{"a": 1}\n', '{"row": 1}\n', "[]\n"):
        out = write(content, "notes.txt")
        before = out.read_bytes()
        status, _, err = cli("run", spec, "--inputs", rows, "--fake", "--out", out)
        assert (status, out.read_bytes()) == (2, before)
        assert "is not what `lmprog run --out` writes" in err


def test_failed_rows_are_lines_too(cli, spec, rows, tmp_path, provider) -> None:
    failure = (401, {}, json.dumps({"error": {"message": "who are you"}}))
    provider.otherwise = lambda text: failure if text.startswith("t1") else "refund"
    out = tmp_path / "out.jsonl"
    status, _, err = cli("run", spec, "--inputs", rows, "--out", out)
    assert (status, err) == (3, f"3 rows in {out}, 1 failed\n")
    assert [line["row"] for line in lines(out)] == [0, 1, 2]
    assert lines(out)[1]["outputs"] is None
    assert lines(out)[1]["error"].startswith("sort: openai/x gave no answer: ")
    assert "who are you" in lines(out)[1]["error"]


def test_rows_that_an_on_error_answered_say_so_and_are_not_run_again(
    cli, write, rows, tmp_path, provider, spec
) -> None:
    spec = write(SPEC.replace('"${{ inputs.text }}"}', '"${{ inputs.text }}"}, on_error: {label: billing}'))
    failure = (401, {}, json.dumps({"error": {"message": "who are you"}}))
    provider.otherwise = lambda text: failure if text.startswith("t1") else "refund"
    out = tmp_path / "out.jsonl"
    status, _, err = cli("run", spec, "--inputs", rows, "--out", out)
    said = (
        "1 run: step `sort` failed (provider) and was answered by its `on_error`: row 1: sort: openai/x gave no answer"
    )
    assert (status, err.startswith(said), err.endswith(f"3 rows in {out}\n")) == (0, True, True)
    found = lines(out)
    assert [line.get("recovered") is None for line in found] == [True, False, True]
    assert (found[1]["error"], found[1]["recovered"][0]["step"]) == (None, "sort")
    asked = len(provider.requests)
    assert cli("run", spec, "--inputs", rows, "--out", out)[0] == 0
    assert len(provider.requests) == asked and lines(out) == found
    status, out, err = cli("run", spec, "--input", "text=t1")
    assert (status, json.loads(out)["label"]) == (0, "billing")
    assert err.startswith(
        "lmprog: step `sort` failed and was answered by its `on_error`: sort: openai/x gave no answer"
    )


def test_a_row_without_an_input_is_no_fault_of_a_provider(cli, spec, write, tmp_path, provider) -> None:
    rows = write('{"text": "a"}\n{"txt": "b"}\n', "rows.jsonl")
    status, _, _ = cli("run", spec, "--inputs", rows, "--fake", "--out", tmp_path / "out.jsonl")
    assert status == 2
    assert lines(tmp_path / "out.jsonl")[1]["error"] == "inputs: the input 'text' (str) is missing"


def test_an_unreadable_reply(cli, spec, rows, tmp_path, provider) -> None:
    provider.otherwise = "neither"
    status, out, err = cli("run", spec, "--input", "text=a")
    assert (status, out) == (1, "")
    assert err == 'lmprog: sort: label: "neither" is not one of billing, refund\n'
    assert cli("run", spec, "--inputs", rows, "--out", tmp_path / "out.jsonl")[0] == 0


def test_nasty_words_reach_out_and_trace(cli, write, spec, tmp_path, provider) -> None:
    free = write(
        SPEC.replace("{enum: [billing, refund]}", "str").replace("outputs: {label: str}", "outputs: {label: json}")
    )
    nasty = '"\\ud83d \\u2028 \\"é"'
    provider.otherwise = nasty
    rows = write('{"text": "a"}\n', "rows.jsonl")
    out, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    assert cli("run", free, "--inputs", rows, "--out", out, "--trace", trace)[0] == 0
    (line,) = out.read_bytes().splitlines()
    assert json.loads(line)["outputs"]["label"] == json.loads(nasty)
    made, _ = trace.read_bytes().splitlines()
    assert json.loads(made)["text"] == nasty


def test_fake_asks_nobody(cli, spec, provider) -> None:
    status, out, _ = cli("run", spec, "--fake", "--input", "text=a")
    assert (status, json.loads(out)["label"], provider.requests) == (0, "billing", [])


def test_a_program_that_needs_no_input_runs_without_one(cli, write) -> None:
    spec = write(
        """
        lmprog: 1
        inputs: {n: {type: int, default: 3}}
        outputs: {double: "${{ steps.double.value }}"}
        steps: {double: {value: "${{ inputs.n * 2 }}"}}
        """
    )
    assert cli("run", spec) == (0, '{\n  "double": 6\n}\n', "")
    assert json.loads(cli("run", spec, "--input", "n=5")[1]) == {"double": 10}


def test_seeds_and_overrides(cli, spec, tmp_path, provider) -> None:
    provider.otherwise = "billing"
    seeds = []
    for seed in ("0", "0", "1"):
        trace = tmp_path / f"{len(seeds)}.jsonl"
        cli("run", spec, "--input", "text=a", "--seed", seed, "--trace", trace, "--set", "lms.lm.params.max_tokens=7")
        seeds.append(lines(trace)[0]["seed"])
    assert seeds[0] == seeds[1] != seeds[2]
    assert provider.requests[0]["max_tokens"] == 7
    cli("run", spec, "--input", "text=a", "--lm", "lm=openai/other")
    assert provider.requests[-1]["model"] == "other"


def test_tags_are_in_the_trace(cli, spec, tmp_path, provider) -> None:
    provider.otherwise = "billing"
    trace = tmp_path / "trace.jsonl"
    cli("run", spec, "--input", "text=a", "--trace", trace, "--tag", "session=s=1", "--tag", "user=ada")
    tags = {"session": "s=1", "user": "ada"}
    assert {made["kind"]: made["tags"] for made in lines(trace)} == {"lm": tags, "run": tags}
    status, _, err = cli("run", spec, "--input", "text=a", "--tag", "session")
    assert status == 2 and "--tag wants NAME=VALUE" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to run on"),
        (["--input", "text=a", "--inputs", "rows.jsonl"], "say what to run on"),
        (["--inputs", "rows.jsonl"], "--inputs needs --out FILE"),
        (["--input", "text"], "--input wants NAME=VALUE, not 'text'"),
        (["--input", "txt=a"], "desk has no input 'txt'"),
        (["--input", "text=a", "--input", "n=many"], "the input 'n': \"many\" is not a value of type int"),
        (["--input", "text=a", "--concurrency", "0"], "--concurrency"),
        (["--input", "text=a", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage(cli, spec, arguments, message) -> None:
    status, out, err = cli("run", spec, *arguments)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_done(spec, rows, tmp_path, provider) -> None:
    out = tmp_path / "out.jsonl"
    provider.otherwise = lambda text: "billing" if text.startswith("t0") else time.sleep(60) or "refund"
    command = [LMPROG, "run", spec, "--inputs", rows, "--out", out, "--concurrency", "2"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
    wait_until(lambda: out.exists() and out.read_bytes().endswith(b"\n"), "the first row")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err.strip()) == (130, "interrupted")
    assert [line["row"] for line in lines(out)] == [0]
