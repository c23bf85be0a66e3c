"""Prices and context windows without litellm: the table of ours."""

from __future__ import annotations

import json
from datetime import date

import pytest

from lmprog.compiler import model_table
from lmprog.compiler.model_table import KEYS, OURS, PROVIDERS, entry_of, limits, names_of, takes_no_tools, written_table
from lmprog.compiler.plan import LM


@pytest.fixture
def ours(monkeypatch):
    monkeypatch.setattr(model_table, "_litellms", lambda: "")
    for cached in (model_table._table, entry_of, names_of):
        cached.cache_clear()
    yield
    for cached in (model_table._table, entry_of, names_of):
        cached.cache_clear()


def test_our_table_is_dated_and_holds_what_is_read() -> None:
    table = json.loads(OURS.read_text("utf-8"))
    assert date(2026, 11, 1) <= date.fromisoformat(table.pop("our table")["as_of"])
    assert {entry["litellm_provider"] for entry in table.values()} == {*PROVIDERS}
    assert all({*entry} <= {*KEYS} for entry in table.values())
    assert sum("input_cost_per_token" in entry for entry in table.values()) > 200


def test_prices_without_litellm(ours) -> None:
    found = limits(LM("lm", "openai/gpt-4.1-mini"))
    assert (found.prompt_usd, found.completion_usd, found.cached_usd) == (4e-7, 1.6e-6, 1e-7)
    assert found.context == 1_047_576
    assert limits(LM("lm", "openai/nobody-knows")).prompt_usd is None
    assert "gpt-4.1-mini" in names_of("openai")
    assert not names_of("bedrock")


def test_our_table_is_made_from_litellms() -> None:
    entry = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "supports_vision": True}
    other = {"litellm_provider": "elsewhere", "mode": "chat", "input_cost_per_token": 1e-6}
    made = json.loads(written_table(json.dumps({"a": entry, "b": other, "c": {**entry, "mode": "embedding"}})))
    assert [*made] == ["our table", "a"]
    assert made["a"] == {name: entry[name] for name in ("litellm_provider", "mode", "input_cost_per_token")}


@pytest.mark.parametrize("prefix", ["hosted_vllm", "lm_studio", "llamafile", "ollama", "ollama_chat", "vllm"])
def test_a_server_of_ones_own_costs_nothing_whatever_its_model_is_called(prefix: str) -> None:
    found = limits(LM("lm", f"{prefix}/gpt-4.1-mini"))
    assert (found.prompt_usd, found.completion_usd, found.cached_usd, found.context) == (0.0, 0.0, None, None)
    priced = limits(LM("lm", f"{prefix}/gpt-4.1-mini", price={"input": 1.0, "output": 2.0}))
    assert (priced.prompt_usd, priced.completion_usd) == (1e-6, 2e-6)


def test_a_table_says_which_models_take_no_tools(ours) -> None:
    assert takes_no_tools("deepseek/deepseek-reasoner")
    assert not any(map(takes_no_tools, ("openai/gpt-4.1-mini", "openai/nobody-knows", "hosted_vllm/gpt-5-chat")))
    entry = {"litellm_provider": "openai", "mode": "chat"}
    made = json.loads(
        written_table(json.dumps({name: {**entry, "supports_function_calling": name == "a"} for name in "ab"}))
    )
    assert "supports_function_calling" not in made["a"] and made["b"]["supports_function_calling"] is False
