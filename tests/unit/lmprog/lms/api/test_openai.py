"""OpenAI's models are asked without litellm: at its own address, or at one that the environment names."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from lmprog.compiler.plan import LM
from lmprog.compiler.routes import is_direct
from lmprog.errors import UsageError
from lmprog.lms.api import ApiLM
from lmprog.lms.api.access import OPENAI, Access
from lmprog.lms.lm import Request
from lmprog.lms.provider_keys import keys_of
from lmprog.lms.sending import as_sent

SPEC = """
    lmprog: 1
    inputs: {text: str}
    lms: {remote: {model: openai/gpt-4.1-mini, params: {max_tokens: 9}, cache: false, trusted: true}}
    modules:
      ask: {lm: remote, inputs: {text: str}, outputs: {reply: str}, instructions: Answer.}
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY", "OPENAI_ORGANIZATION", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gpt(write, server, monkeypatch):
    import lmprog

    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test-0123456789")
    return lmprog.load(write(SPEC))


def test_the_address_and_the_key_come_from_the_environment(gpt, server) -> None:
    result = gpt(text="a")
    (asked,) = server.asked
    assert result.outputs == {"reply": "ok"}
    assert (asked.path, asked.body["model"]) == ("/v1/chat/completions", "gpt-4.1-mini")
    assert asked.headers["Authorization"] == "Bearer sk-of-a-test-0123456789"
    assert asked.body["max_tokens"] == 9


def test_the_fields_of_extra_body_are_sent_in_its_place(write, server, gpt) -> None:
    more = LM("remote", "openai/gpt-4.1-mini", params={"extra_body": {"top_k": 5}})
    request = Request([{"role": "user", "content": "a"}], more.params)
    asyncio.run(ApiLM(more).complete(request))
    (asked,) = server.asked
    shown = as_sent(more, request)
    for body in (asked.body, shown):
        assert body["top_k"] == 5 and "extra_body" not in body


def test_the_name_of_the_limit_is_the_models(gpt, server) -> None:
    def answer(asked):
        if "max_tokens" in asked.body:
            words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return web.json_response({"error": {"message": words}}, status=400)
        return "ok"

    server.answer = answer
    gpt(text="a")
    gpt(text="b")
    limits = [{name: value for name, value in asked.body.items() if "tokens" in name} for asked in server.asked]
    assert limits == [{"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_completion_tokens": 9}]


def test_openais_own_address_wants_a_key(monkeypatch) -> None:
    with pytest.raises(UsageError, match=r"'lm' \(openai/x\) has no key; set OPENAI_API_KEY in the environment"):
        Access.of(LM("lm", "openai/x"))
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    access = Access.of(LM("lm", "openai/x"))
    assert (access.base, access.key, access.headers) == (OPENAI, "k", {"OpenAI-Organization": "org-1"})


@pytest.mark.parametrize(
    ("model", "direct"),
    [
        ("openai/gpt-4.1-mini", True),
        ("openai/nobody-knows", True),
        ("openai/responses/gpt-4.1", False),
        ("openai/o1-pro", False),  # answers at the address for responses alone
        ("anthropic/claude-haiku-4-5", False),
        ("hosted_vllm/x", True),
    ],
)
def test_which_models_are_asked_directly(model: str, direct: bool) -> None:
    assert is_direct(LM("lm", model)) is direct


def test_a_server_in_openais_place_needs_no_key(monkeypatch) -> None:
    assert keys_of(LM("a", "openai/x")) == ("OPENAI_API_KEY",)
    monkeypatch.setenv("AZURE_API_BASE", "http://one")
    assert keys_of(LM("a", "azure/x")) == ("AZURE_API_KEY",)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert keys_of(LM("a", "openai/x")) == ()
