"""Traces on disk: whatever a killed writer left, whole records are read and the next writer goes on cleanly."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog import Invocation, Usage
from lmprog.errors import UsageError
from lmprog.state.json_lines import PassedOver, cut_torn_line
from lmprog.traces.files import TraceWriter, read_trace


def invocation(call: int, text: str | None = "reply", **more: Any) -> Invocation:
    return Invocation(
        program="p",
        module="m",
        path="m",
        call=call,
        example=0,
        rollout=0,
        inputs={"text": "a"},
        messages=[{"role": "user", "content": "a"}],
        text=text,
        outputs=None,
        **more,
    )


TEXTS = st.lists(st.text() | st.sampled_from(["\n", "\u2028", "\ud800", "é\r\n", '"}\n{"']), max_size=3)


@given(TEXTS, st.data())
def test_every_truncation_is_read_as_a_prefix_and_goes_on(texts: list[str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        with TraceWriter(path) as writer:
            writer.write([invocation(call, text) for call, text in enumerate(texts)])
        whole, records = path.read_bytes(), list(read_trace(path))
        assert [record.get("text", "") for record in records] == texts
        end = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:end])
        kept = records[: whole[:end].count(b"\n")]
        assert list(read_trace(path)) == kept
        with TraceWriter(path) as writer:
            writer.write([invocation(9, "after")])
        *before, last = read_trace(path)
        assert (before, last["call"]) == (kept, 9)


def test_a_torn_line_longer_than_a_block_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * 200_000)
    cut_torn_line(path)
    assert path.read_bytes() == b'{"a": 1}\n'
    path.write_bytes(b"x" * 200_000)
    cut_torn_line(path)
    assert path.read_bytes() == b""


def test_cutting_leaves_a_missing_file_missing(tmp_path: Path) -> None:
    cut_torn_line(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_record_holds_what_was_said_and_leaves_out_the_rest() -> None:
    made = invocation(3, "hi", usage=Usage(5, 2, 0.25), logprobs=(-0.5,), token_ids=(7,), seed=11)
    assert made.as_json() == {
        "kind": "lm",
        "program": "p",
        "module": "m",
        "path": "m",
        "call": 3,
        "example": 0,
        "rollout": 0,
        "attempt": 0,
        "inputs": {"text": "a"},
        "messages": [{"role": "user", "content": "a"}],
        "params": {},
        "text": "hi",
        "logprobs": (-0.5,),
        "token_ids": (7,),
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "usd": 0.25, "cached_tokens": 0, "reasoning_tokens": 0},
        "started": 0.0,
        "seconds": 0.0,
        "seed": 11,
        "prompt_sha256": made.prompt_sha256,
        "request_sha256": made.request_sha256,
    }


def test_the_trace_is_utf8_that_any_reader_takes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trace.jsonl"
    with TraceWriter(path) as writer:
        writer.write([invocation(0, "é\ud83d")])
    assert "é\\ud83d" in path.read_text(encoding="utf-8")


def test_a_torn_line_in_the_middle_is_passed_over_and_told(tmp_path: Path) -> None:
    path, passed_over = tmp_path / "trace.jsonl", PassedOver()
    path.write_bytes(b'{"a": 1}\n{"b": \n\n[2]\n\xff\n{"c": 3}\n{"d": 4}')
    assert list(read_trace(path, passed_over)) == [{"a": 1}, {"c": 3}]
    assert passed_over.numbers == [2, 3, 4, 5, 7]


def test_a_write_that_a_full_disk_cuts_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"

    class Full:
        """A file that takes 40 bytes and no more, until there is room again."""

        def __init__(self, file: Any) -> None:
            self.file, self.left = file, 40

        def write(self, data: bytes) -> int:
            if self.left == 0:
                raise OSError(28, "No space left on device")
            written = self.file.write(data[: self.left])
            self.left -= written
            return int(written)

        def close(self) -> None:
            self.file.close()

    with TraceWriter(path) as writer:
        writer.write([invocation(0)])
        full = writer._file = Full(writer._file)  # type: ignore[assignment]
        with pytest.raises(OSError, match="No space left"):
            writer.write([invocation(1), invocation(2)])
        full.left = 10_000
        writer.write([invocation(3)])
        writer.write([invocation(4)])
    passed_over = PassedOver()
    assert [record["call"] for record in read_trace(path, passed_over)] == [0, 3, 4]
    assert passed_over.numbers == [2]


def test_the_records_of_a_run_reach_the_file_in_one_write(tmp_path: Path) -> None:
    path, writes = tmp_path / "trace.jsonl", []
    with TraceWriter(path) as writer:
        file = writer._file

        class Counted:
            def write(self, data: bytes) -> int:
                writes.append(data)
                return file.write(data)

            close = file.close

        writer._file = Counted()  # type: ignore[assignment]
        writer.write([invocation(call, "x" * 100_000) for call in range(3)])
    assert len(writes) == 1
    assert [record["call"] for record in read_trace(path)] == [0, 1, 2]


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "a row"}\n',
        '{"text": "a row", "kind": "lm"}\n',
        '{"row": 0, "outputs": {}, "kind": null}\n',
        '{"text": "a row without an end"}',
        "notes of mine",
        "a\nb",
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_that_is_no_trace_stays_as_it_is(tmp_path: Path, content: str, shared: bool) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match="is no trace"):
        TraceWriter(path, shared=shared)
    assert path.read_text() == content


def test_what_is_no_regular_file_holds_no_trace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(UsageError, match="is no regular file"):
            TraceWriter(path)
    assert [*tmp_path.iterdir()] == [tmp_path / "pipe"]


WHOLE = '{"kind": "lm", "program": "desk", "path": "ask", "example": 0, "rollout": 0}\n'


@pytest.mark.parametrize("left", ["", '{"ver', '{"version": 1, "kind": "l', WHOLE])
def test_what_an_earlier_writer_left_is_gone_on_with(tmp_path: Path, left: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(left)
    with TraceWriter(path) as writer:
        writer.write([invocation(0)])
    assert path.read_text().count('"prompt_sha256"') == 1
