"""`lmprog trace`: what ran, in order, and what it came to; files that are no traces are named as such."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lmprog
from tests.functional.traced import calls, lines_of

SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}"}
    lms:
      lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed, price: {input: 1, output: 2}}
    tools:
      look: {python: "./tools.py:look", result: found}
    modules:
      sort: {inputs: {text: str, found: str}, outputs: {label: {enum: [billing, refund]}}, retry: 1}
    steps:
      look: {tool: look, with: {text: "${{ inputs.text }}"}}
      sort: {module: sort, with: {text: "${{ inputs.text }}", found: "${{ steps.look.found }}"}}
"""


@pytest.fixture
def trace(write, provider, monkeypatch, tmp_path, cli) -> Path:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    write("def look(text):\n    return 'found [' + text + ']'\n", "tools.py")
    rows = write("".join(json.dumps({"text": f"t{row}"}) + "\n" for row in range(3)), "rows.jsonl")
    provider.otherwise = lambda text: "refund" if "t1" not in text else "no idea"
    path = tmp_path / "trace.jsonl"
    status, _, _ = cli("run", write(SPEC), "--inputs", rows, "--out", tmp_path / "out.jsonl", "--trace", path)
    assert status == 0
    return path


def test_each_run_with_its_calls_and_what_they_came_to(cli, trace) -> None:
    status, out, err = cli("trace", trace)
    assert (status, err) == (0, "")
    for row in range(3):
        assert f"desk row {row}\n" in out
    assert out.index("desk row 0") < out.index("look tool look") < out.index("sort  ") < out.index("desk row 1")
    assert "11 + 3 tokens, $0.000017" in out
    assert 'error: label: "no idea" is not one of' in out
    assert "4 LM calls, 3 tool calls, 1 error\n" in out
    assert "1 reply could not be read" in out
    assert "sort  " in out.split("desk row 1")[1] and ", attempt 1\n" in out.split("desk row 1")[1]
    assert "latency: half within" in out


def test_one_row_one_module_errors_and_messages(cli, trace) -> None:
    _, out, _ = cli("trace", trace, "--row", 2, "--messages")
    assert "desk row 2" in out and "desk row 1" not in out
    assert "user " in out and "found [t2]" in out and "reply refund" in out
    assert '{"text": "t2"}' in out and 'result "found [t2]"' in out
    long = calls(trace)[-1]
    long["messages"][-1]["content"] = "a" * 3000 + "\n[b]" + "c" * 3000
    trace.write_text(trace.read_text() + json.dumps({**long, "example": 9}) + "\n")
    _, out, _ = cli("trace", trace, "--row", 9, "--messages")
    assert "a" * 3000 in out and "[b]" + "c" * 3000 in out
    odd = {**long, "example": 8, "text": "\x1b]0;title\x07 \ud83d é", "error": "\x1b[2J"}
    trace.write_text(trace.read_text() + json.dumps(odd) + "\n")
    status, out, _ = cli("trace", trace, "--row", 8, "--messages")
    assert status == 0 and "\x1b" not in out
    assert "reply \\u001b]0;title \\ud83d é" in out and "error: \\u001b[2J" in out
    _, out, _ = cli("trace", trace, "--module", "look")
    assert "0 LM calls, 3 tool calls, 0 errors" in out
    _, out, _ = cli("trace", trace, "--errors")
    assert "desk row 1" in out and "desk row 0" not in out
    assert "2 LM calls, 0 tool calls, 2 errors\n" in out


def test_json_is_one_document(cli, trace) -> None:
    status, out, _ = cli("trace", trace, "--format", "json")
    document = json.loads(out)
    assert status == 0
    summary = document["summary"]
    assert (summary["lm_calls"], summary["tool_calls"], summary["unreadable"], summary["torn_lines"]) == (4, 3, 1, 0)
    assert (summary["prompt_tokens"], summary["completion_tokens"], summary["unpriced"]) == (44, 12, 0)
    assert summary["usd"] == pytest.approx(44e-6 + 24e-6)
    assert summary["p50"] <= summary["p95"]
    assert [{"version": 1, **record} for record in document["records"]] == calls(trace)
    assert [{"version": 1, **run} for run in document["runs"]] == lines_of(trace, "run")


def test_torn_lines_are_left_out_and_counted(cli, trace) -> None:
    lines = trace.read_bytes().splitlines(keepends=True)
    trace.write_bytes(b"".join([lines[0], lines[1][:40] + b"\n", *lines[2:], lines[1][:30]]))
    status, out, _ = cli("trace", trace)
    assert status == 0
    assert f"2 lines could not be read and are left out: 2, {len(lines) + 1}" in out


def test_two_runs_on_the_same_row_are_two_trees(cli, trace) -> None:
    first = b"".join(trace.read_bytes().splitlines(keepends=True)[:2])
    trace.write_bytes(first + first.replace(b'"seconds": ', b'"seconds": 1'))
    assert cli("trace", trace)[1].count("desk row 0") == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file"),
        ("", "is empty: no call has been traced yet"),
        ("notes\nof mine\n", "is no trace: it has no line that is a JSON object"),
        ('{"row": 0, "outputs": {}}\n', "is no trace: it has a line of JSON that is no call"),
    ],
)
def test_what_is_no_trace_is_said_to_be_none(cli, tmp_path, content, said) -> None:
    path = tmp_path / "file.jsonl"
    if content is not None:
        path.write_text(content)
    status, out, err = cli("trace", path)
    assert (status, out) == (2, "")
    assert said in err
    assert cli("trace", tmp_path)[0] == 2


def test_a_recording_answers_where_no_provider_is(trace, provider, tmp_path) -> None:
    provider.close()
    program = lmprog.load(tmp_path / "program.yaml").replaying(trace)
    results = program.map([{"text": f"t{row}"} for row in range(3)])
    assert [result.outputs["label"] for result in results] == ["refund"] * 3
    with pytest.raises(lmprog.ReplayMiss, match="holds no call of the tool 'look'"):
        program.map([{"text": "t9"}])


def test_a_program_exports_what_every_verb_runs(cli, trace, tmp_path) -> None:
    spec, kept = tmp_path / "program.yaml", tmp_path / "kept.jsonl"
    spec.write_text(
        spec.read_text()
        + "data: {test: rows.jsonl}\nmetrics: {m: {value: '${{ 1.0 }}'}}\nexport: {traces: kept.jsonl}\n"
    )
    assert cli("run", spec, "--input", "text=a")[0] == 0
    assert cli("eval", spec)[0] == 0
    assert cli("run", spec, "--input", "text=a", "--fake")[0] == 0
    document = json.loads(cli("trace", kept, "--format", "json")[1])
    assert (document["summary"]["lm_calls"], document["summary"]["tool_calls"]) == (5, 4)
