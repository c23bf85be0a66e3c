"""OpenAI's face of `lmprog serve`, asked by the `openai` client; and outputs that stream piece by piece."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.functional.test_serve import events_of, serve  # noqa: F401

openai = pytest.importorskip("openai", reason="needs the `openai` client, which the extra `providers` brings")
pytestmark = pytest.mark.slow

CHAT = """
    lmprog: 1
    name: desk
    inputs: {talk: messages, tone: {type: str, default: kind}}
    outputs: {reply: "${{ steps.say.reply }}"}
    lms: {lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: sk-x}}
    modules:
      say: {inputs: {talk: messages, tone: str}, outputs: {reply: str}, retry: 0}
"""
AGENT = """
    lmprog: 1
    name: desk
    inputs: {talk: messages}
    outputs: {reply: "${{ steps.say.reply }}"}
    lms: {lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: sk-x, cache: false}}
    tools: {note: {python: "./notes.py:note", result: noted, effects: write}}
    modules:
      say: {inputs: {talk: messages}, outputs: {reply: str}, tools: [note], max_turns: 4, retry: 0}
    steps: {say: {module: say, retry: 1, on_error: {reply: sorry}, with: {talk: "${{ inputs.talk }}"}}}
"""
NOTES = """
    from pathlib import Path

    def note(text: str) -> str:
        with Path("notes").open("a") as file:
            file.write(text + "\\n")
        return "written: " + text
"""
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
HI = {"role": "user", "content": "Hi"}
SORT = """
    lmprog: 1
    name: sorter
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}", why: "${{ steps.sort.why }}"}
    lms: {lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: sk-x}}
    modules:
      sort: {inputs: {text: str}, outputs: {why: str, label: {enum: [billing, refund]}}, retry: 0}
"""


def streamed(*pieces: str) -> tuple[int, dict[str, str], str]:
    """A reply of the stand-in for the provider, in chunks."""
    lines = [
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [choice]}
        for choice in (
            *({"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces),
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        )
    ]
    body = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
    return 200, {"content-type": "text/event-stream"}, body


def calling(*calls: tuple[str, str, Any]) -> tuple[int, dict[str, str], str]:
    """A reply of the stand-in for the provider that calls tools: each an id, a name and arguments (a text: as it is)."""
    made = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": given}}
        for id, name, arguments in calls
        for given in [arguments if isinstance(arguments, str) else json.dumps(arguments)]
    ]
    message = {"role": "assistant", "content": None, "tool_calls": made}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return (
        200,
        {},
        json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice]}),
    )


def client_of(served: Any, key: str = "none") -> Any:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0)


def test_a_program_is_a_model(serve, write, provider, tmp_path) -> None:  # noqa: F811
    trace = tmp_path / "trace.jsonl"
    served = serve(write(CHAT), "--trace", trace, "--tag", "app=desk", TEST_API_BASE=provider.url)
    client = client_of(served)
    assert [model.id for model in client.models.list()] == ["desk"] and client.models.retrieve("desk").id == "desk"
    provider.otherwise = provider.counted("Hello, Ada.", 20, 4)
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Who?"},
        {"role": "user", "content": "Ada"},
    ]
    more = {"user": "ada", "metadata": {"plan": "free"}, "extra_headers": {"lmprog-tags": "session=s%201"}}
    answer = client.chat.completions.create(model="desk", messages=talk, temperature=0.3, **more)
    assert answer.choices[0].message.content == "Hello, Ada." and answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (20, 4, 24)
    assert [message["content"] for message in provider.requests[-1]["messages"]][-4:-1] == ["Hi", "Who?", "Ada"]
    tags = {"app": "desk", "plan": "free", "user": "ada", "session": "s 1"}
    (call,) = [found for line in trace.read_text().splitlines() if (found := json.loads(line))["kind"] == "lm"]
    assert call["tags"] == tags


def test_a_chat_streams(serve, write, provider) -> None:  # noqa: F811
    served = serve(write(CHAT), TEST_API_BASE=provider.url)
    provider.otherwise = streamed("Hel", "lo, ", "Ada", ".")
    chunks = list(
        client_of(served).chat.completions.create(
            model="desk",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert "".join(pieces) == "Hello, Ada." and len(pieces) > 1
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[0].choices[0].delta.role == "assistant"


def test_several_outputs_are_json_and_a_text_is_the_last_message(serve, write, provider) -> None:  # noqa: F811
    served = serve(write(SORT), TEST_API_BASE=provider.url)
    provider.otherwise = "<why>It says money.</why>\n<label>refund</label>"
    talk = [
        {"role": "system", "content": "Be nice"},
        {"role": "user", "content": [{"type": "text", "text": "My money"}]},
    ]
    answer = client_of(served).chat.completions.create(model="sorter", messages=talk)
    assert json.loads(answer.choices[0].message.content) == {"label": "refund", "why": "It says money."}
    said = str(provider.requests[-1]["messages"])
    assert "My money" in said and "Be nice" not in said


@pytest.mark.parametrize(
    ("request_of", "status", "said"),
    [
        ({"model": "other"}, 404, "the model is 'desk'"),
        ({"messages": "hello"}, 422, "list of messages"),
        ({"n": 2}, 422, "one answer"),
        ({"tools": [WEATHER]}, 422, "no agent: a module with `tools`"),
        ({"tools": [{"type": "function"}]}, 422, "the tools that it declares"),
        ({"functions": [{"name": "weather"}]}, 422, "send them as `tools`"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "/etc/x"}}]}]},
            422,
            "data URIs",
        ),
    ],
)
def test_what_a_chat_may_not_ask(serve, write, provider, request_of: Any, status: int, said: str) -> None:  # noqa: F811
    served = serve(write(CHAT), TEST_API_BASE=provider.url)
    body = {"model": "desk", "messages": [{"role": "user", "content": "Hi"}]} | request_of
    answer = served.client.post("/v1/chat/completions", content=json.dumps(body))
    error = answer.json()["error"]
    assert answer.status_code == status and said in error["message"] and error["type"] == error["code"]
    assert not provider.requests


def test_a_failure_ends_a_chat_that_streams(serve, write, provider) -> None:  # noqa: F811
    served = serve(write(CHAT), TEST_API_BASE=provider.url)
    provider.otherwise = (401, {}, '{"error": {"message": "wrong key of the house"}}')
    talk: Any = {"model": "desk", "messages": [{"role": "user", "content": "Hi"}]}
    with pytest.raises(openai.InternalServerError, match="the provider of an LM gave no answer"):
        client_of(served).chat.completions.create(**talk)
    with pytest.raises(openai.APIError, match="the provider of an LM gave no answer"):
        list(client_of(served).chat.completions.create(**talk, stream=True))


def test_a_key_is_asked_for_chats_too(serve, write, provider) -> None:  # noqa: F811
    served = serve(write(CHAT), "--api-key-env", "KEY", TEST_API_BASE=provider.url, KEY="open")
    with pytest.raises(openai.AuthenticationError):
        client_of(served).models.list()
    assert [model.id for model in client_of(served, "open").models.list()] == ["desk"]


def test_outputs_stream_by_field(serve, write, provider) -> None:  # noqa: F811
    served = serve(write(SORT), TEST_API_BASE=provider.url)
    provider.otherwise = streamed("<why>It sa", "ys mon", "ey.</why>\n<label>ref", "und</label>")
    answer: httpx.Response = served.client.post("/run?stream=fields", content=json.dumps({"text": "My money"}))
    events = events_of(answer.text)
    pieces = [value for name, value in events if name == "field"]
    assert "".join(piece["piece"] for piece in pieces if piece["output"] == "why") == "It says money."
    assert len([piece for piece in pieces if piece["output"] == "why"]) > 1
    assert {"output": "label", "piece": "refund"} in pieces
    assert events[-1][0] == "result" and events[-1][1]["outputs"] == {"label": "refund", "why": "It says money."}


def test_prometheus_reads_counts(serve, write, provider) -> None:  # noqa: F811
    served = serve(write(SORT), TEST_API_BASE=provider.url)
    provider.otherwise = provider.counted("<why>x</why><label>refund</label>", 20, 4)
    assert served.run(text="a").status_code == served.run(text="b").status_code == 200
    assert served.client.get("/no/such/place").status_code == 404
    text = served.client.get("/metrics").text
    for line in (
        'lmprog_requests_total{path="/run",status="200"} 2.0',
        'lmprog_requests_total{path="other",status="404"} 1.0',
        'lmprog_request_seconds_count{path="/run"} 2.0',
        'lmprog_lm_calls_total{failed="no",module="sort"} 2.0',
        'lmprog_tokens_total{kind="prompt",module="sort"} 40.0',
        "lmprog_runs_in_flight 0.0",
    ):
        assert line in text


def test_a_page_says_how_to_call(serve, write, provider) -> None:  # noqa: F811
    served = serve(
        write(CHAT.replace("name: desk", "name: desk\n    description: <b>Helps</b>")), TEST_API_BASE=provider.url
    )
    page = served.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert f"curl {served.url}/run" in page.text and "/v1/chat/completions" in page.text
    assert "&lt;b&gt;Helps" in page.text and "<b>Helps" not in page.text


def test_a_client_calls_its_own_tools(serve, write, provider, tmp_path) -> None:  # noqa: F811
    write(NOTES, "notes.py")
    trace = tmp_path / "trace.jsonl"
    served = serve(write(AGENT), "--trace", trace, TEST_API_BASE=provider.url)
    ask: Any = client_of(served).chat.completions.create
    provider.replies = [
        calling(("a", "note", {"text": "one"}), ("b", "weather", "{not JSON")),
        calling(
            ("c", "weather", {"place": "Oslo"}), ("d", "note", {"text": "two"}), ("e", "weather", {"place": "Rome"})
        ),
    ]
    answer = ask(model="desk", messages=[HI], tools=[WEATHER], tool_choice="auto")
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    made = choice.message.tool_calls
    given = [(call.type, call.function.name, json.loads(call.function.arguments)) for call in made]
    assert given == [("function", "weather", {"place": "Oslo"}), ("function", "weather", {"place": "Rome"})]
    assert [tool["function"]["name"] for tool in provider.requests[0]["tools"]] == ["note", "weather"]
    assert provider.requests[0]["tools"][1] == WEATHER
    # What cannot be read is told to the LM, as with the program's own tools.
    (_, unread) = provider.requests[1]["messages"][-2:]
    assert unread["tool_call_id"] == "b" and unread["content"].startswith("error: ")
    run = json.loads(trace.read_text().splitlines()[-1])
    assert run["kind"] == "run" and not {"error", "failure", "outputs"} & set(run)
    assert [(call["name"], call["arguments"]) for call in run["client_calls"]] == [
        ("weather", {"place": "Oslo"}),
        ("weather", {"place": "Rome"}),
    ]
    # The LM gets its own turns again, with the calls of the program's tool, which is not called anew.
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"sun {number}"} for number, call in enumerate(made)
    ]
    talk = [HI, choice.message, *results]
    provider.replies = ["Sunny."]
    answer = ask(model="desk", messages=talk, tools=[WEATHER])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Sunny.", "stop")
    sent = [turn for turn in provider.requests[-1]["messages"] if turn["role"] != "system"]
    assert [
        (turn["role"], turn.get("tool_call_id"), turn["content"]) for turn in sent if turn["role"] != "assistant"
    ] == [
        ("user", None, "Hi"),
        ("tool", "a", "written: one"),
        ("tool", "b", unread["content"]),
        ("tool", "d", "written: two"),
        ("tool", "c", "sun 0"),
        ("tool", "e", "sun 1"),
    ]
    assert [call["id"] for turn in sent if turn["role"] == "assistant" for call in turn["tool_calls"]] == [*"abcde"]
    assert (tmp_path / "notes").read_text() == "one\ntwo\n"
    # No result, no tool to choose, a name that is taken.
    with pytest.raises(openai.UnprocessableEntityError, match=f"the result of {made[1].id}"):
        ask(model="desk", messages=talk[:-1], tools=[WEATHER])
    with pytest.raises(openai.UnprocessableEntityError, match="a tool note of its own"):
        ask(model="desk", messages=[HI], tools=[{"type": "function", "function": {"name": "note"}}])
    provider.replies = [calling(("a", "weather", {})), "Nothing."]
    answer = ask(model="desk", messages=[HI], tools=[WEATHER], tool_choice="none")
    assert answer.choices[0].message.content == "Nothing." and "there is no tool 'weather'" in str(
        provider.requests[-1]
    )


def test_a_client_calls_its_own_tools_in_a_stream(serve, write, provider) -> None:  # noqa: F811
    write(NOTES, "notes.py")
    served = serve(write(AGENT), TEST_API_BASE=provider.url)
    client, talk = client_of(served), [HI]
    provider.replies = [calling(("c", "weather", {"place": "Oslo"}), ("e", "weather", {"place": "Rome"}))]
    # The client's own reader joins the deltas to a message.
    with client.chat.completions.stream(model="desk", messages=talk, tools=[WEATHER]) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [call.function.arguments for call in choice.message.tool_calls] == ['{"place": "Oslo"}', '{"place": "Rome"}']
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in choice.message.tool_calls]
    asked = [
        call.model_dump(include={"id": ..., "type": ..., "function": {"name", "arguments"}})
        for call in choice.message.tool_calls
    ]
    provider.replies = [streamed("Sun", "ny.")]
    talk = [HI, {"role": "assistant", "tool_calls": asked}, *results]
    chunks = list(client.chat.completions.create(model="desk", messages=talk, tools=[WEATHER], stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Sunny."
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert [turn.get("tool_call_id") for turn in provider.requests[-1]["messages"]][-2:] == ["c", "e"]
