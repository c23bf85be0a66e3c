"""Whatever a server sends is a reply or the failure of its try: any JSON, any stream, cut anywhere, with any header."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmprog.boundary.wire import loads, retry_after, whole_text
from lmprog.compiler.model_table import Limits
from lmprog.lms.api.event_stream import UNREADABLE, events_of, lines_of
from lmprog.lms.api.failures import TryFailed, words_of
from lmprog.lms.api.reply import Pieces, cost, joined, read
from lmprog.lms.lm import Completion
from tests.standing_in import standing_in

PRICES = Limits(1000, 1e-6, 2e-6, cached_usd=1e-7)
FIELDS = [
    "choices",
    "message",
    "content",
    "delta",
    "role",
    "refusal",
    "finish_reason",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "id",
    "index",
    "usage",
    "logprobs",
    "token_ids",
    "prompt_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "error",
    "text",
    "type",
    "logprob",
    "reasoning_content",
]
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("[" * 2000))
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=25,
)
NEAR = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"message": ANY, "finish_reason": ANY}), max_size=2)}
)


def outcome(reply: Any) -> Completion | None:
    """Return the completion, None where the reply was refused; a completion is of the shapes that it declares."""
    try:
        made = read(reply, cost(reply, PRICES))
    except TryFailed:
        return None
    assert isinstance(made.text, str) and isinstance(made.finish_reason, str)
    assert made.usage is not None
    assert min(made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.cached_tokens) >= 0
    assert made.usage.usd is None or 0 <= made.usage.usd < float("inf")
    assert all(isinstance(call.name, str) and isinstance(call.arguments, dict | None) for call in made.tool_calls)
    json.dumps(whole_text(made.text), ensure_ascii=False).encode()
    return made


@pytest.mark.slow
@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(st.one_of(ANY, NEAR))
def test_any_json_is_a_reply_or_a_failed_try(reply: Any) -> None:
    outcome(reply)


@pytest.mark.slow
@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(("choices", "usage", "id")), ANY, max_size=3), max_size=4))
def test_any_pieces_are_a_reply_or_a_failed_try(pieces: list[dict[str, Any]]) -> None:
    made = Pieces()
    try:
        for piece in pieces:
            made.add(piece)
    except TryFailed:
        return
    outcome(made.whole())


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        loads(data)
    words_of(data.decode(errors="replace"))


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[" * 200_000 + "]" * 200_000])
def test_json_too_deep_to_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"deep|."):
        loads(text)


def test_a_number_of_any_length_is_read() -> None:
    assert loads('{"created": ' + "9" * 5000 + "}") == {"created": float("inf")}
    assert loads("-" + "9" * 5000) == float("-inf")
    assert loads("12345678901234567890") == 12345678901234567890


def test_half_a_pair_is_replaced_and_a_whole_pair_is_one_character() -> None:
    assert loads(r'["\ud83d\ude00 \ud83d lone"]') == ["\U0001f600 � lone"]
    assert whole_text({"a": ["\ud800x"]}) == {"a": ["�x"]}


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(st.dictionaries(st.sampled_from(("Retry-After", "retry-after-ms", "RETRY-AFTER")), st.text(max_size=30)))
def test_any_header_asks_for_a_wait_or_for_none(headers: dict[str, str]) -> None:
    assert (asked := retry_after(headers)) is None or 0 <= asked <= 1e9


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "2500", "Retry-After": "3"}, 2.5),
        ({"retry-after-ms": "soon", "Retry-After": "3"}, 3.0),
        ({"Retry-After": "inf"}, 1e9),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "1 Nov 99999999999999999999 00:00:00 GMT"}, None),
        ({"Retry-After": "Mon, 01 Jan 2030 99999999999:00:00 GMT"}, None),
        ({"Retry-After": "Mon, 01 Jan 2030 00:00:00 +99999999999999999999"}, None),
        ({"Retry-After": "Mon, 01 Jan 0001 00:00:00 +2300"}, 0.0),
    ],
)
def test_a_wait_is_read_from_milliseconds_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_without_a_zone_is_in_utc(monkeypatch) -> None:
    new_year = 1893456000.0  # 2030-01-01 00:00 UTC
    monkeypatch.setattr("lmprog.boundary.wire.time", standing_in(time, time=lambda: new_year))
    assert retry_after({"Retry-After": "Tue, 01 Jan 2030 00:00:07"}) == 7.0


@pytest.mark.parametrize("status", [402, 403, 429])
@pytest.mark.parametrize("body", ['{"error": {"code": "insufficient_quota"}}', "You exceeded your current quota, ..."])
def test_a_spent_quota_is_final(status: int, body: str) -> None:
    failed = TryFailed.of_status(status, words_of(body), {"Retry-After": "1"}, body)
    assert not failed.passing and failed.asked in (1.0, None)
    assert "credit" in TryFailed.of_status(status, words_of(body), {}, body).fix
    assert TryFailed.of_status(429, "slow down", {}).passing


def test_the_other_name_of_a_parameter_is_the_fix() -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    failed = TryFailed.of_status(400, words, {})
    assert not failed.passing and failed.limit == "max_completion_tokens"


# The shapes of one reply.


def message(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": "alpha", **fields}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        "hi",
        {"choices": None},
        {"choices": {"0": 1}},
        {"choices": [None]},
        {"choices": [{"message": None}]},
        {"error": {"message": "busy"}},
        message(content=42),
        message(content={"a": 1}),
        message(content=[5]),
        message(content=[{"text": 5}]),
        message(tool_calls=[{"id": 1}]),
        {"choices": [{"message": {"content": "al"}, "finish_reason": "error"}]},
    ],
)
def test_a_reply_without_a_text_is_no_reply(reply: Any) -> None:
    with pytest.raises(TryFailed) as caught:
        read(reply, None)
    assert caught.value.passing


@pytest.mark.parametrize(
    "reply",
    [
        message(),
        message(content=[{"type": "thinking", "thinking": "so"}, {"type": "text", "text": "alpha"}, None]),
        message(content=["al", "pha"]),
        message(tool_calls="x"),
        {**message(), "usage": "lots"},
        {**message(), "usage": {"prompt_tokens": "ten", "completion_tokens": None, "prompt_tokens_details": "x"}},
        {**message(), "usage": {"prompt_tokens": float("inf"), "completion_tokens": float("nan")}},
        {**message(), "usage": {"prompt_tokens": -1_000_000, "completion_tokens": -5}},
        {**message(), "usage": {"prompt_tokens": 10**400, "completion_tokens": True}},
        {
            "choices": [
                {"message": {"content": "alpha"}, "finish_reason": {"a": 1}, "logprobs": "none", "token_ids": "x"}
            ]
        },
        {"choices": [{"message": {"content": "alpha"}, "token_ids": [1], "logprobs": {"content": [{"logprob": "x"}]}}]},
    ],
)
def test_what_stands_beside_a_reply_does_not_spoil_it(reply: Any) -> None:
    made = outcome(reply)
    assert made is not None and made.text == "alpha"
    assert made.logprobs is None and made.tool_calls == ()
    assert made.usage is not None and made.usage.prompt_tokens == made.usage.completion_tokens == 0


def test_kept_tokens_cost_their_own_price() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 80}}
    assert cost({"usage": usage}, PRICES) == pytest.approx(20e-6 + 80e-7 + 20e-6)
    assert cost({"usage": usage}, Limits(1000, 1e-6, 2e-6)) == pytest.approx(120e-6)


def test_model_id_and_reasoning_are_kept() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 7}}
    made = read({**message(reasoning_content="so"), "id": "r1", "model": "m-2", "usage": details}, None)
    assert (made.id, made.model) == ("r1", "m-2")
    assert made.usage is not None and made.usage.reasoning_tokens == 7
    assert made.message is not None and made.message["reasoning_content"] == "so"
    assert read(message(annotations=[], audio=None, provider_specific_fields={"refusal": None}), None).message is None


# Streams.


async def _of(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def listed(make: Any, parts: Sequence[bytes]) -> list[Any]:
    async def collect() -> list[Any]:
        return [found async for found in make(_of(parts))]

    return asyncio.run(collect())


def events(parts: Sequence[bytes]) -> list[bytes]:
    found = listed(events_of, parts)
    for data, value in found:
        try:
            assert value == loads(data)
        except ValueError:
            assert value is UNREADABLE
    return [data for data, _ in found]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("gap", [1, 2])
def test_a_stream_cut_at_any_byte_gives_the_same_events(end: bytes, gap: int) -> None:
    wanted = [b'{"a": 1}', b'{"b":\t"\xc3\xa9"}', b"[DONE]"]
    stream = b": keep-alive" + end * 2 + b"".join(b"event: x" + end + b"data: " + event + end * gap for event in wanted)
    for place in range(len(stream) + 1):
        assert events([stream[:place], stream[place:]]) == wanted
    assert events([stream[at : at + 1] for at in range(len(stream))]) == wanted
    assert events([stream.rstrip(end)]) == wanted


def test_an_event_over_several_lines_is_one() -> None:
    assert events([b'data: {"a":\ndata: 1}\n\ndata: {"b": 2}\n\n']) == [b'{"a":\n1}', b'{"b": 2}']
    assert events([b"data: not\ndata: json\n\n"]) == [b"not\njson"]
    assert events([b'\xef\xbb\xbfdata: {"a": 1}']) == [b'{"a": 1}']


@given(st.lists(st.text(alphabet="ab\r\n", max_size=6).map(str.encode), max_size=6))
def test_lines_are_those_of_the_whole_stream(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    expected = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert listed(lines_of, parts) == expected


def calls(*deltas: Any) -> list[tuple[str, str, Any]]:
    pieces = Pieces()
    for delta in deltas:
        pieces.add({"choices": [{"delta": {"tool_calls": [delta]}}]})
    made = read(pieces.whole(), None)
    return [(call.id, call.name, call.arguments) for call in made.tool_calls]


def part(id: str | None = None, name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": id, "function": {"name": name, "arguments": arguments}, **more}


TWO = [("a", "find", {"q": 1}), ("b", "find", {"q": 2})]


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        (
            [
                part("a", "find", '{"q"', index=0),
                part(None, None, ": 1}", index=0),
                part("b", "find", '{"q": 2}', index=1),
            ],
            TWO,
        ),
        ([part("a", "find", '{"q": 1}'), part("b", "find", '{"q": 2}')], TWO),
        ([part("a", "find", '{"q": 1}', index=0), part("b", "find", '{"q": 2}', index=0)], TWO),
        ([part("a", "find", '{"q"'), part(None, None, ": 1}"), part("b", "find"), part("b", None, '{"q": 2}')], TWO),
        (
            [
                part("a", "find", '{"q"', index=0),
                part("a", "find", ": 1}", index=0),
                part("b", "find", '{"q": 2}', index=1),
            ],
            TWO,
        ),
        ([part("b", "find", {"q": 2}, index=1), part("a", "find", {"q": 1}, index=0)], TWO),
        (
            [part(None, "find", '{"q": 1}'), part(None, "find", '{"q": 2}')],
            [("", "find", {"q": 1}), ("", "find", {"q": 2})],
        ),
        ([part("a", "fi", index=0), part(None, "nd", '{"q": 1}', index=0)], TWO[:1]),
        ([part("a", "find", '{"q"', index=0), part("x", None, ": 1}", index=0)], TWO[:1]),
    ],
)
def test_streamed_calls_are_those_that_were_made(deltas: list[Any], expected: list[Any]) -> None:
    assert calls(*deltas) == expected


def test_blocks_of_thinking_are_joined_until_their_signature() -> None:
    first = [{"type": "thinking", "thinking": "so", "signature": None}]
    more = [{"type": "thinking", "thinking": " be it", "signature": "s1"}]
    other = [{"type": "thinking", "thinking": "next", "signature": "s2"}]
    found = joined(joined(joined(None, first), more), other)
    assert found == [
        {"type": "thinking", "thinking": "so be it", "signature": "s1"},
        {"type": "thinking", "thinking": "next", "signature": "s2"},
    ]
