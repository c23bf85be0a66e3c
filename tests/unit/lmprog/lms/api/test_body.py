"""What is sent: schemas of replies, tools, seeds, and the marks of prompt caches."""

from __future__ import annotations

import pytest
from aiohttp import web

from lmprog.compiler.types.lattice import INT, JSON, STR, Enum, ListOf, Object, Optional
from lmprog.lms.api.body import SEEDS, marked, marks_caches, parameters
from lmprog.lms.lm import Request, ToolOffer
from tests.unit.lmprog.lms.api.server_for_api import DIRECT, LITELLM

MARK = {"type": "ephemeral"}
KIND = Object((("label", Enum(("a", "b"))), ("why", Optional(STR)), ("parts", ListOf(Object((("n", INT),))))))
JSON_OUTPUT = {"outputs: {reply: str}": "outputs: {reply: str, n: int}, format: json"}


def test_the_schema_of_the_reply() -> None:
    made = parameters(Request([], output_type=KIND, format="json"), structured=True, seeded=False)
    assert made == {
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "reply",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {
                        "label": {"type": "string", "enum": ["a", "b"]},
                        "why": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                        "parts": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {"n": {"type": "integer"}},
                                "required": ["n"],
                                "additionalProperties": False,
                            },
                        },
                    },
                    "required": ["label", "why", "parts"],
                    "additionalProperties": False,
                },
            },
        }
    }


def test_a_schema_with_a_hole_is_not_strict() -> None:
    kind = Object((("any", ListOf(JSON)),))
    made = parameters(Request([], output_type=kind, format="json"), structured=True, seeded=False)
    assert made["response_format"]["json_schema"]["strict"] is False


def test_tools_stand_in_for_the_schema_and_params_go_first() -> None:
    offer = ToolOffer("find", "Finds.", {"type": "object", "properties": {}})
    request = Request([], {"seed": 5}, seed=2**40 + 3, output_type=KIND, format="json", tools=[offer])
    made = parameters(request, structured=True, seeded=True)
    function = {"name": "find", "description": "Finds.", "parameters": {"type": "object", "properties": {}}}
    assert made == {"seed": 5, "tools": [{"type": "function", "function": function}]}
    assert parameters(Request([], seed=2**40 + 3), structured=True, seeded=True) == {"seed": 3}
    assert (2**40 + 3) % SEEDS == 3


def test_the_direct_route_sends_the_schema_and_goes_on_without_where_it_is_refused(remote, server) -> None:
    def answer(asked):
        if "response_format" in asked.body:
            return web.json_response({"error": {"message": "Unknown field: response_format"}}, status=400)
        return '{"reply": "x", "n": 1}'

    server.answer = answer
    program = remote(DIRECT, **JSON_OUTPUT)
    assert program(text="a").outputs == {"reply": "x", "n": 1}
    assert [asked.body.get("response_format", {}).get("type") for asked in server.asked] == ["json_schema", None]
    program(text="b")
    assert len(server.asked) == 3


def test_a_refusal_of_something_else_stays(remote, server) -> None:
    server.answer = lambda asked: web.json_response({"error": {"message": "too long"}}, status=400)
    (result,) = remote(DIRECT, **JSON_OUTPUT).map([{"text": "a"}])
    assert result.error.message.endswith("gave no answer: HTTP 400: too long")
    assert len(server.asked) == 1


@pytest.mark.slow
def test_litellm_sends_the_schema_to_those_that_it_knows_to_take_it(remote, server) -> None:
    server.answer = lambda asked: '{"reply": "x", "n": 1}'
    remote(LITELLM, **JSON_OUTPUT)(text="a")
    remote("mistral/mistral-large-latest", **JSON_OUTPUT)(text="a")
    assert "response_format" not in server.asked[0].body
    assert server.asked[1].body["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(("model", "sent"), [(DIRECT, True), (LITELLM, True), ("mistral/x", False)])
def test_the_seed_goes_to_those_that_take_one(remote, server, model, sent) -> None:
    program = remote(model)
    program(text="a")
    program(text="a")
    seeds = [asked.body.get("seed") for asked in server.asked]
    assert seeds[0] == seeds[1]
    assert isinstance(seeds[0], int) is sent


@pytest.mark.parametrize(
    ("model", "marks"),
    [
        ("anthropic/claude-sonnet-4-5", True),
        ("claude-sonnet-4-5", True),
        ("bedrock/anthropic.claude-sonnet-4-20250514-v1:0", True),
        ("bedrock/us.anthropic.claude-sonnet-4-20250514-v1:0", True),
        ("vertex_ai/claude-sonnet-4@20250514", True),
        ("openrouter/anthropic/claude-sonnet-4", True),
        ("vertex_ai/gemini-2.5-pro", False),
        ("openai/gpt-4.1", False),
        ("hosted_vllm/claude-like", False),
        ("bedrock/meta.llama3", False),
    ],
)
def test_who_wants_marks(model, marks) -> None:
    assert marks_caches(model) is marks


SYSTEM, USER = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Text: hello"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:"}}


def part(text: str, *, mark: bool = False) -> dict:
    return {"type": "text", "text": text, **({"cache_control": MARK} if mark else {})}


def test_the_message_is_cut_where_it_begins_to_vary() -> None:
    assert marked([SYSTEM, USER], (1, 6)) == [
        SYSTEM,
        {"role": "user", "content": [part("Text: ", mark=True), part("hello")]},
    ]


@pytest.mark.parametrize("constant", [(1, 0), (2, 0)])
def test_whole_messages_are_marked_at_their_end(constant) -> None:
    messages = [SYSTEM, USER, USER]
    found = marked(messages, constant)
    at = constant[0] - 1
    assert found[at]["content"] == [part(messages[at]["content"], mark=True)]
    assert [found[index] for index in range(3) if index != at] == [messages[index] for index in range(3) if index != at]
    assert messages == [SYSTEM, USER, USER]


def test_what_is_blank_or_empty_is_not_marked() -> None:
    blank = {"role": "user", "content": "\n\nhello"}
    assert marked([SYSTEM, blank], (1, 2)) == [{"role": "system", "content": [part("Be kind.", mark=True)]}, blank]
    called = {"role": "assistant", "content": None, "tool_calls": []}
    assert marked([SYSTEM, called, USER], (2, 0)) == [
        {"role": "system", "content": [part("Be kind.", mark=True)]},
        called,
        USER,
    ]
    assert marked([USER], (0, 0)) == [USER]
    assert marked([blank], (0, 2)) == [blank]


def test_nothing_constant_at_all_and_everything() -> None:
    assert marked([USER], (0, 11)) == [{"role": "user", "content": [part("Text: hello", mark=True)]}]
    assert marked([USER], (5, 3)) == [{"role": "user", "content": [part("Text: hello", mark=True)]}]


def test_pictures_stand_behind_what_is_constant() -> None:
    message = {"role": "user", "content": [part("Look: "), PICTURE, part("and say")]}
    assert marked([message], (0, 6))[0]["content"] == [part("Look: ", mark=True), PICTURE, part("and say")]
    assert marked([message], (0, 4))[0]["content"] == [part("Look", mark=True), part(": "), PICTURE, part("and say")]
    assert marked([message], (0, 99))[0]["content"] == [part("Look: ", mark=True), PICTURE, part("and say")]
    first = {"role": "user", "content": [PICTURE, part("and say")]}
    assert marked([first], (0, 3)) == [first]


def test_marks_reach_the_provider(remote, server) -> None:
    server.answer = lambda asked: {
        "id": "1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 5,
            "output_tokens": 2,
            "cache_read_input_tokens": 40,
            "cache_creation_input_tokens": 0,
        },
    }
    program = remote("anthropic/claude-sonnet-4-5")
    (made,) = program(text="hi").trace
    (asked,) = server.asked
    assert asked.body["system"] == [part("Answer.", mark=True)]
    assert (made.usage.prompt_tokens, made.usage.cached_tokens, made.usage.completion_tokens) == (45, 40, 2)
    assert made.usage.usd == pytest.approx((5 * 3 + 40 * 0.3 + 2 * 15) / 1e6)
