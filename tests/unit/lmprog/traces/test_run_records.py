"""Records of whole runs: what a row of data needs, and nothing private where others may read it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.compiler.types.lattice import PRIMITIVES, Enum, ListOf, Object, Optional, Primitive
from lmprog.compiler.types.plain_types import plain_type, type_of_plain
from lmprog.lms.lm import ToolCall
from lmprog.runtime.result import recorded
from lmprog.traces.exports import FileExport
from lmprog.traces.files import TraceWriter, read_trace
from lmprog.traces.run_record import RunRecorder
from lmprog.traces.run_trace import RunTrace
from lmprog.traces.summary import is_record, runs

SPEC = """
    name: desk
    inputs: {text: str, account: {type: str, private: true, default: "17-SECRET"}}
    outputs: {label: "${{ steps.sort.label }}", account: "${{ inputs.account }}", told: "${{ steps.tell.said }}"}
    modules:
      sort: {lm: lm, inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}}
      tell: {lm: lm, inputs: {account: str}, outputs: {said: str}}
    steps:
      sort: {module: sort, with: {text: "${{ inputs.text }}"}}
      tell: {module: tell, with: {account: "${{ inputs.account }}"}}
"""
TYPES = st.recursive(
    st.sampled_from([Primitive(name) for name in PRIMITIVES])
    | st.lists(st.text(), min_size=1, unique=True).map(lambda values: Enum(tuple(values))),
    lambda inner: (
        inner.map(ListOf)
        | inner.filter(lambda kind: not isinstance(kind, Optional)).map(Optional)
        | st.dictionaries(st.text(), inner).map(lambda fields: Object(tuple(fields.items())))
    ),
    max_leaves=6,
)


@given(TYPES)
def test_a_type_is_read_as_it_was_written(kind) -> None:
    assert type_of_plain(json.loads(json.dumps(plain_type(kind)))) == kind


def answer(request):
    return "refund" if "billing" in str(request.messages) else "told 17-SECRET"


def test_a_run_is_one_line_after_its_calls(program, scripted, tmp_path: Path) -> None:
    desk = program(SPEC, scripted(answer))
    recorder = RunRecorder(desk.plan)
    (result,) = desk.map([{"text": "a"}])
    record = recorded(recorder, result, 3)
    assert (record.inputs, record.outputs) == ({"text": "a"}, result.outputs)
    assert recorder.private == ["account", "told"]
    assert record.types == {"label": {"enum": ["billing", "refund"]}, "account": "str", "told": "str"}
    assert record.id == recorded(recorder, result, 3).id != recorded(recorder, result, 4).id
    assert recorder.record({}, None, None, (), example="5f").id == "5f"
    call = ToolCall("1", "weather", {"place": "17-SECRET"}, "{}")
    waiting = recorder.record({}, None, None, (), example="5f", client_calls=(call,))
    assert waiting.as_json()["client_calls"] == [asdict(call)] and "SECRET" not in str(waiting.as_json(shared=True))
    with TraceWriter(tmp_path / "trace.jsonl") as writer:
        writer.write([*result.records, recorded(recorder, result, 0)])
        writer.write([*result.records, recorded(recorder, result, 0)])
    lines = list(read_trace(tmp_path / "trace.jsonl"))
    assert all(map(is_record, lines)) and [line["kind"] for line in lines[-1:]] == ["run"]
    # Lines that equal an earlier one are left out, so that the second run has no line of its own.
    assert [len(run) for run in runs(lines)] == [3]


@pytest.mark.parametrize("inputs", [{"text": "a"}, {"text": "a", "account": "4-SECRET"}])
def test_a_file_that_others_may_read_has_no_private_value_of_the_run(program, scripted, tmp_path, inputs) -> None:
    desk = program(SPEC, scripted(answer))
    export = FileExport({"file": tmp_path / "shared.jsonl"})
    desk.with_exporter(export).map([inputs])
    export.close()
    *_, run = read_trace(tmp_path / "shared.jsonl")
    assert (run["kind"], run["inputs"], run["outputs"]) == ("run", {"text": "a"}, {"label": "refund"})
    assert "SECRET" not in json.dumps(run) and run["private"] == ["account", "told"]


def test_a_run_without_calls_has_its_tags(program, tmp_path: Path) -> None:
    plan = program('outputs: {one: "${{ 1 }}"}\nsteps: {one: {value: "1"}}\n').plan
    export = FileExport({"file": tmp_path / "trace.jsonl"})
    export(RunTrace("desk", 0, 0, outputs={"one": 1}, plan=plan, tags={"session": "s1"}))
    export.close()
    assert [line["tags"] for line in read_trace(tmp_path / "trace.jsonl")] == [{"session": "s1"}]
