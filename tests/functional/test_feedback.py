"""Feedback on runs: over HTTP beside the trace of a server, and by `lmprog feedback` on any trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from lmprog.traces.feedback import beside, read_feedback
from tests.functional.test_serve import DESK, error_of, serve  # noqa: F401
from tests.functional.traced import lines_of

pytestmark = pytest.mark.slow


def test_feedback_over_http(serve, write, provider, tmp_path: Path) -> None:  # noqa: F811
    provider.otherwise = "billing"
    served = serve(write(DESK), "--trace", "trace.jsonl", TEST_API_BASE=provider.url)
    id = served.run(text="hello").json()["id"]
    body = {"model": "desk", "messages": [{"role": "user", "content": "hi"}]}
    chat = served.client.post("/v1/chat/completions", json=body).json()["id"]
    path = f"/runs/{id}/feedback"
    given = {"score": 0, "comment": "no \U0001f600", "correction": {"label": "refund"}}
    assert served.client.post(path, json=given).json() == {"id": id, "feedback": given}
    assert served.client.post(f"/runs/{chat}/feedback", json={"score": 1}).status_code == 200
    assert served.client.post(path, json={"score": None}).status_code == 200

    refused = served.client.post(path, json={"correction": {"label": "other"}})
    assert error_of(refused) == (422, "feedback", "correction.label")
    assert refused.json()["error"]["message"] == '"other" is not one of billing, refund'
    assert error_of(served.client.post(path, json={})) == (422, "feedback", "feedback")
    assert error_of(served.client.post(path, content=b"[")) == (400, "body", None)
    for strange in ("none", id[:12], "sort", "%0a"):
        assert error_of(served.client.post(f"/runs/{strange}/feedback", json={"score": 1})) == (404, "no_run", None)
    described = served.client.get("/openapi.json").json()
    validate(described)
    assert "feedback" in described["paths"]["/runs/{id}/feedback"]["post"]["responses"]["422"]["description"]
    assert "/runs/ID/feedback" in served.client.get("/docs").text
    served.stop()

    trace = tmp_path / "trace.jsonl"
    other = chat.removeprefix("chatcmpl-")
    assert [line["id"] for line in lines_of(trace, "run")] == [id, other]
    assert read_feedback(trace) == {
        other: {"score": 1},
        id: {"comment": "no \U0001f600", "correction": {"label": "refund"}},
    }


def test_a_server_without_a_trace_keeps_no_feedback(serve, write, provider) -> None:  # noqa: F811
    served = serve(write(DESK), TEST_API_BASE=provider.url)
    assert error_of(served.client.post("/runs/a/feedback", json={"score": 1})) == (409, "no_trace", None)


@pytest.fixture
def trace(cli, write, provider, monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    provider.otherwise = lambda text: "refund" if "back" in text else "billing"
    rows = write('{"text": "money back"}\n{"text": "a bill"}\n', "rows.jsonl")
    path = tmp_path / "trace.jsonl"
    assert cli("run", write(DESK), "--inputs", rows, "--out", tmp_path / "out.jsonl", "--trace", path)[0] == 0
    return path


def test_feedback_on_a_trace(cli, trace: Path, write) -> None:
    first, second = (line["id"] for line in lines_of(trace, "run"))
    assert f"run {first}\n" in cli("trace", trace)[1]
    status, _, err = cli("feedback", trace, "0", "--score", 1)
    assert (status, err) == (0, f"feedback on run {first} in {beside(trace)}\n")
    assert cli("feedback", trace, second[:6], "--correction", "label=refund", "--comment", "they want money")[0] == 0
    assert read_feedback(trace) == {
        first: {"score": 1.0},
        second: {"comment": "they want money", "correction": {"label": "refund"}},
    }
    # Of a file all is taken, or nothing.
    table = write(f"run,score,correction.label\n{first},0,billing\n1,,refund\n", "checked.csv")
    assert cli("feedback", trace, "--from", table)[0] == 0
    assert read_feedback(trace)[first] == {"score": 0, "correction": {"label": "billing"}}
    before = beside(trace).read_bytes()
    status, _, err = cli("feedback", trace, "--from", write(table.read_text() + "1,9,\n", "more.csv"))
    assert status == 2 and "more.csv, row 2: score: 9 is no number from 0 (wrong) to 1 (right)" in err
    assert beside(trace).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say which run"),
        (("7", "--score", "1"), "has no run '7'; `lmprog trace "),
        (("0",), "feedback: it is empty; say a score, a comment or a correction"),
        (("0", "--correction", "lable=refund"), "correction.lable: the program has no such output; did you mean"),
        (("0", "--correction", "label=other"), 'correction.label: "other" is not one of billing, refund'),
        (("0", "--score", "2"), "score: 2.0 is no number from 0 (wrong) to 1 (right)"),
        (("0", "--from", "x.csv"), "give it alone"),
    ],
)
def test_wrong_feedback_on_a_trace(cli, trace: Path, arguments, said) -> None:
    status, out, err = cli("feedback", trace, *arguments)
    assert (status, out) == (2, "") and said in err
    assert not beside(trace).exists()


def test_a_trace_of_an_earlier_version_is_read_but_has_no_runs(cli, trace: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.jsonl"
    lines = [line for line in trace.read_text().splitlines(keepends=True) if json.loads(line)["kind"] != "run"]
    old.write_text("".join(lines))
    assert "desk row 1" in cli("trace", old)[1]
    status, _, err = cli("feedback", old, "0", "--score", 1)
    assert status == 2 and "was written by an earlier version of lmprog" in err
    status, _, err = cli("feedback", tmp_path / "none.jsonl", "0", "--score", 1)
    assert status == 2 and "there is no trace" in err
