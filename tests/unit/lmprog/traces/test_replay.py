"""Replay: a trace answers in place of every LM and tool, exactly, and says what has changed where it cannot."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog import Completion, ProviderError, Usage, UsageError
from lmprog.errors import ReplayMiss
from lmprog.lms.lm import ToolCall
from lmprog.runtime.options import RunOptions
from lmprog.traces.files import TraceWriter, read_trace
from lmprog.traces.replay import Recording, ReplayLM

TEXT = """
name: desk
inputs: {text: str}
outputs: {answer: "${{ steps.say.answer }}", found: "${{ steps.look.found }}"}
tools:
  look: {python: "./tools.py:look", result: found, timeout: 60}
modules:
  say:
    inputs: {text: str, found: str}
    outputs: {answer: str}
    retry: 1
    format: fields
steps:
  look: {tool: look, with: {text: "${{ inputs.text }}"}}
  say: {module: say, with: {text: "${{ inputs.text }}", found: "${{ steps.look.found }}"}}
"""
TOOLS = """
import pathlib

def look(text: str) -> str:
    with open(pathlib.Path(__file__).with_name("calls.txt"), "a") as file:
        file.write(text + "\\n")
    if text == "burn":
        raise ValueError("on fire")
    if text == "gone":
        raise ConnectionRefusedError("nobody is there")
    return "found " + text
"""
ROWS = [{"text": text} for text in ("fine", "unreadable at first", "down", "burn", "never readable", "gone")]


def answer(request: Any) -> Any:
    said = request.messages[-1]["content"]
    if "down" in said:
        return ProviderError("x gave no answer: 503")
    if "never" in str(request.messages) or ("unreadable" in said and len(request.messages) == 2):
        return "no"
    if "cannot be read" in said:
        return "<answer>second</answer>"
    return Completion(
        "<answer>é</answer>",
        (1, 2),
        (-0.5, -0.25),
        (7, 8),
        Usage(5, 2, 0.5, 3),
        "stop",
        (ToolCall("1", "t", {"a": 1}),),
    )


@pytest.fixture
def desk(program, scripted):
    return program(TEXT, scripted(answer), tools__py=TOOLS)


def stream(desk: lmprog.Program, rows: list[dict[str, Any]], **options: Any) -> list[lmprog.Result]:
    async def collect() -> list[lmprog.Result]:
        return [result async for result in desk.stream(rows, options=RunOptions(**options))]

    return asyncio.run(collect())


def record(path: Path, results: list[lmprog.Result]) -> None:
    with TraceWriter(path) as writer:
        for result in results:
            writer.write(result.records)


def plain(result: lmprog.Result) -> Any:
    """All of a result but its times."""
    records = [replace(made, started=0.0, seconds=0.0).as_json() for made in result.records]
    return dict(result.outputs) if result.outputs else None, result.error, json.loads(json.dumps(records))


def test_outputs_records_and_faults_are_replayed_and_nothing_is_asked(desk, tmp_path) -> None:
    path, calls = tmp_path / "recording.jsonl", tmp_path / "calls.txt"
    first = stream(desk, ROWS)
    assert [result.error.kind if result.error else None for result in first] == [
        None, None, "provider", "tool", "unreadable", "connection",
    ]  # fmt: skip
    record(path, first)
    asked, called = len(desk.lms["lm"].requests), calls.read_text()
    replayed = desk.replaying(path)
    for _ in range(2):
        assert [plain(result) for result in stream(replayed, ROWS)] == [plain(result) for result in first]
    assert stream(replayed, ROWS)[0].trace[0].tool_calls == (ToolCall("1", "t", {"a": 1}),)
    assert (len(desk.lms["lm"].requests), calls.read_text()) == (asked, called)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"modules": {"say": {"instructions": "Be short."}}}, {}, "message 1 (system) has changed, from "),
        ({"lms": {"lm": {"model": "openai/other"}}}, {}, "the weights have changed, from openai/none to openai/other"),
        ({}, {"params": {"temperature": 0.5}}, "the parameter temperature has changed, from None to 0.5"),
        ({}, {"seed": 1}, "the seed has changed"),
        ({}, {"rollout": 1}, "(row 0, rollout 1, attempt 0): nothing was recorded there"),
    ],
)
def test_a_miss_says_where_and_what_has_changed(desk, tmp_path, change, options, said) -> None:
    path = tmp_path / "recording.jsonl"
    record(path, stream(desk, ROWS[:1]))
    program = replace(desk, plan=desk.recompile(change))
    with pytest.raises(ReplayMiss) as missed:
        stream(program.replaying(path), ROWS[:1], **options)
    assert f"{path} holds no reply for say (row 0" in str(missed.value)
    assert said in str(missed.value)
    assert "record it anew" in str(missed.value)
    assert missed.value.exit_status == 1


def test_a_changed_prompt_is_shown_from_where_it_changed(desk, tmp_path) -> None:
    path = tmp_path / "recording.jsonl"
    record(path, stream(desk, [{"text": "a" * 500 + "before"}]))
    for line in read_trace(path):
        assert line["kind"] in ("lm", "tool")
    # The tool is asked first, so its arguments are what is missed.
    with pytest.raises(ReplayMiss, match=r"holds no call of the tool 'look' with \{'text': 'aaa"):
        stream(desk.replaying(path), [{"text": "a" * 500 + "after"}])
    with pytest.raises(ReplayMiss, match=r"message 2 .user. has changed, from 'a{20}before.* to 'a{20}after"):
        other = desk.recompile({"steps": {"say": {"with": {"text": "a" * 500 + "after"}}}})
        stream(replace(desk, plan=other).replaying(path), [{"text": "a" * 500 + "before"}])


def test_equal_calls_are_answered_in_the_order_of_the_recording(desk, tmp_path, scripted) -> None:
    replies = iter(["one", "two"])
    desk = desk.with_lms({"lm": scripted(lambda request: f"<answer>{next(replies)}</answer>")})
    path = tmp_path / "recording.jsonl"
    record(path, [desk(text="x"), desk(text="x")])
    replayed = desk.replaying(path)
    assert [replayed(text="x").outputs["answer"] for _ in range(4)] == ["one", "two", "one", "two"]


def test_sub_programs_and_judges_are_replayed_too(write, program, monkeypatch, scripted, tmp_path) -> None:
    inner = """
        lmprog: 1
        name: {name}
        inputs: {{text: str}}
        outputs: {{score: "${{{{ steps.rate.score }}}}"}}
        lms: {{own: {{model: openai/own}}}}
        modules: {{rate: {{inputs: {{text: str}}, outputs: {{score: float}}}}}}
        steps: {{rate: {{module: rate, with: {{text: "${{{{ inputs.text }}}}"}}}}}}
    """
    write(inner.format(name="inner"), "inner.yaml")
    made = program(
        """
        name: outer
        inputs: {text: str}
        outputs: {score: "${{ steps.sub.score }}"}
        steps: {sub: {program: ./inner.yaml, with: {text: "${{ inputs.text }}"}}}
        metrics: {judged: {program: ./inner.yaml, with: {text: "${{ inputs.text }}"}, range: [0, 1]}}
        """
    )
    real = scripted(lambda request: "0.5")
    monkeypatch.setattr("lmprog.lms.making.make_lm", lambda declared: real)
    path = tmp_path / "recording.jsonl"
    first = stream(made, [{"text": "a"}])
    record(path, first)
    assert first[0].trace[0].parent == "sub"
    replayed = made.replaying(path)
    assert [plain(result) for result in stream(replayed, [{"text": "a"}])] == [plain(result) for result in first]
    with pytest.raises(ReplayMiss, match=r"holds no reply for rate \(row 0\): nothing was recorded there"):
        asyncio.run(replayed.resources.lm(made.plan.metrics["judged"].judge.lms["own"]).complete(
            lmprog.Request(messages=[], key=("0", 0, "rate", 0))
        ))  # fmt: skip
    assert len(real.requests) == 1


def test_a_call_that_was_cut_short_is_cut_short_again(program, scripted, tmp_path) -> None:
    slow = program(
        """
        name: slow
        inputs: {text: str}
        outputs: {answer: "${{ steps.say.answer }}"}
        modules: {say: {inputs: {text: str}, outputs: {answer: str}}}
        steps: {say: {module: say, with: {text: "${{ inputs.text }}"}, timeout: 0.05}}
        """,
        scripted(lambda request: "late", delay=5.0),
    )
    path = tmp_path / "recording.jsonl"
    first = stream(slow, [{"text": "a"}])
    record(path, first)
    assert first[0].error.message == "no end after 0.05 seconds"
    assert plain(stream(slow.replaying(path), [{"text": "a"}])[0]) == plain(first[0])


def test_an_offered_tool_belongs_to_the_request(desk, tmp_path) -> None:
    path = tmp_path / "recording.jsonl"
    record(path, stream(desk, ROWS[:1]))
    lm = ReplayLM(Recording(path), desk.plan.lms["lm"])
    asked = desk.lms["lm"].requests[0]
    assert asyncio.run(lm.complete(asked)).text == "<answer>é</answer>"
    offer = lmprog.lms.lm.ToolOffer("t", "", {})
    with pytest.raises(ReplayMiss, match="the tools that it is offered have changed"):
        asyncio.run(lm.complete(replace(asked, tools=(offer,))))


def test_the_reply_is_told_piece_by_piece_where_it_is_asked_for(desk, tmp_path) -> None:
    path, told = tmp_path / "recording.jsonl", []
    record(path, stream(desk, ROWS[:1]))
    lm = ReplayLM(Recording(path), desk.plan.lms["lm"])
    asyncio.run(lm.complete(replace(desk.lms["lm"].requests[0], on_text=told.append)))
    assert told == ["<answer>é</answer>"]


def test_what_is_no_recording_is_refused(desk, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"there is no recording .*none.jsonl; make it first"):
        desk.replaying(tmp_path / "none.jsonl")
    for line in ('{"module": "say"}', '{"kind": "tool"}', '{"kind": "lm", "request_sha256": "a"}'):
        (tmp_path / "old.jsonl").write_text(f"{line}\n")
        with pytest.raises(UsageError, match="no recording that this version can replay; make it anew"):
            desk.replaying(tmp_path / "old.jsonl")


def test_replay_outlives_a_candidate(desk, tmp_path) -> None:
    path = tmp_path / "recording.jsonl"
    record(path, stream(desk, ROWS[:1]))
    from lmprog.optimizers.candidate import Candidate

    changed = desk.replaying(path).with_candidate(Candidate(instructions={"say": "Other words."}))
    with pytest.raises(ReplayMiss, match="has changed"):
        stream(changed, ROWS[:1])


def test_of_turns_at_one_place_the_one_most_alike_is_named(desk, tmp_path) -> None:
    path = tmp_path / "recording.jsonl"
    record(path, stream(desk, ROWS[:1]))
    asked = desk.lms["lm"].requests[0]
    (line,) = [line for line in read_trace(path) if line["kind"] == "lm"]
    more = [*line["messages"], {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    later = {**line, "messages": more, "request_sha256": "other"}
    with path.open("a") as file:
        file.write(json.dumps(later) + "\n")
    lm = ReplayLM(Recording(path), desk.plan.lms["lm"])
    with pytest.raises(ReplayMiss, match=r"message 4 \(user\) has changed, from 'b' to 'c'"):
        asyncio.run(lm.complete(replace(asked, messages=[*more[:-1], {"role": "user", "content": "c"}])))
    with pytest.raises(ReplayMiss, match="the parameter top_p has changed"):
        asyncio.run(lm.complete(replace(asked, params={"top_p": 0.5})))


def test_a_turn_of_an_agent_that_was_not_recorded_is_a_miss_as_any_other(desk, tmp_path) -> None:
    path = tmp_path / "recording.jsonl"
    record(path, stream(desk, ROWS[:1]))
    lm, asked = ReplayLM(Recording(path), desk.plan.lms["lm"]), desk.lms["lm"].requests[0]
    with pytest.raises(ReplayMiss, match="the parameter top_p has changed"):
        asyncio.run(lm.complete(replace(asked, key=(*asked.key, 1), params={"top_p": 0.5})))


def test_the_lm_that_answered_is_replayed_too(desk, tmp_path, scripted) -> None:
    path = tmp_path / "recording.jsonl"
    named = {"model": "m-1", "id": "r1", "lm": "other", "passed_over": {"lm": "down"}}
    lm = scripted(lambda request: Completion(text="<answer>a</answer>", **named))
    record(path, stream(desk.with_lms({"lm": lm}), ROWS[:1]))
    found = asyncio.run(ReplayLM(Recording(path), desk.plan.lms["lm"]).complete(lm.requests[0]))
    assert {name: getattr(found, name) for name in named} == named
