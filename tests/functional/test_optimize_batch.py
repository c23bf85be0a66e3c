"""`optimize: {batch: true}`: scores of whole splits wait for batches, against a stand-in for a provider."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog.lms.api import batches
from tests.unit.lmprog.lms.api.batch_server import BatchServer
from tests.unit.lmprog.lms.api.server_for_api import reply

SPEC = """
lmprog: 1
name: echo
inputs: {text: str}
outputs: {said: "${{ steps.a.said }}"}
lms: {lm: {model: openai/x, api_base: URL, api_key: none-needed, context: 1000, params: {max_tokens: 10},
  price: {input: 4, output: 8}}}
modules: {ask: {inputs: {text: str}, outputs: {said: str}, instructions: Say it.}}
steps: {a: {module: ask, with: {text: "${{ inputs.text }}"}}}
data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}
metrics: {same: {value: "outputs.said == row.said"}}
optimize:
  metric: same
  batch: true
  tune: {ask: [instructions]}
  instructions: {ask: [Say it again.]}
  stages: [prompt_search: {trials: 2, minibatch: 4, finalists: 1}]
"""
CHAT = "POST /v1/chat/completions"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.setattr(batches, "QUIET", 0.03)
    monkeypatch.setattr(batches, "FIRST_POLL", 0.01)
    made = BatchServer()
    # The other instructions are better.
    made.answer = lambda body: (200, reply("yes" if "again" in str(body["messages"]) else "no"))
    yield made
    made.close()


@pytest.fixture
def spec(write, provider) -> Path:
    for name, count in (("train", 4), ("dev", 40), ("test", 10)):
        write("".join(json.dumps({"text": f"{name} {n}", "said": "yes"}) + "\n" for n in range(count)), f"{name}.jsonl")
    path: Path = write(SPEC.replace("URL", provider.url))
    return path


def texts(provider: BatchServer) -> list[str]:
    return [str(request["body"]["messages"]) + str(request["body"].get("seed")) for request in provider.requests]


@pytest.mark.slow
def test_splits_are_scored_in_batches_and_a_cut_run_goes_on_with_them(spec, provider, tmp_path) -> None:
    whole = lmprog.optimize(spec, run_dir=tmp_path / "whole", seed=1)
    assert whole.report["test"]["difference"]["mean"] == 1.0
    # The rows that choose, those that confirm, and the test rows, each before and after.
    sizes = [batch["request_counts"]["total"] for batch in provider.batches.values()]
    assert sizes == [20, 20, 20, 20, 10, 10]
    searched = provider.asked.count(CHAT)
    assert searched > 0
    assert not list((tmp_path / "whole/batches").glob("*.json"))
    wanted = sorted(texts(provider))
    provider.batches.clear()

    def cut(event: dict[str, Any]) -> None:
        if event["event"] == "note" and "batch_1 of" in event["text"]:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        lmprog.optimize(spec, run_dir=tmp_path / "cut", seed=1, listen=cut)
    assert len(provider.batches) == 2
    again = lmprog.optimize(spec, run_dir=tmp_path / "cut", resume=True)
    assert sorted(texts(provider)) == wanted
    assert again.report["test"] == whole.report["test"]
    assert provider.asked.count(CHAT) == 2 * searched


def test_a_dry_run_has_half_the_price_for_what_waits(spec, provider, cli) -> None:
    parts = {}
    for batch in ("true", "false"):
        status, out, err = cli("optimize", spec, "--dry-run", "--format", "json", "--set", f"optimize.batch={batch}")
        assert status == 0, err
        parts[batch] = {part["name"]: part["usd"] for part in json.loads(out)["parts"]}
    assert provider.asked == []
    assert all(parts["true"].values())
    assert parts["true"].pop("prompt_search") == parts["false"].pop("prompt_search")
    assert parts["true"] == {name: pytest.approx(usd / 2) for name, usd in parts["false"].items()}
    assert len(parts["true"]) == 3


def test_a_model_without_batches_is_a_finding(spec, cli) -> None:
    status, _, err = cli("optimize", spec, "--dry-run", "--lm", "lm=anthropic/x")
    assert status == 1 and "LMP705" in err and "has no batches that lmprog knows how to ask for" in err


def test_an_lm_that_is_not_declared_is_the_one_finding(spec, cli) -> None:
    spec.write_text(spec.read_text().replace("modules: {ask: {", "modules: {ask: {lm: lmm, "))
    status, out, _ = cli("check", spec)
    assert status == 1 and "names the LM" in out and "LMP705" not in out


def test_an_lm_that_no_scoring_asks_needs_no_batches(spec, cli) -> None:
    proposed = spec.read_text().replace("lms: {lm: {", "lms: {writer: {model: anthropic/x}, lm: {")
    proposed = proposed.replace("modules: {ask: {", "modules: {ask: {lm: lm, ")
    spec.write_text(proposed.replace("  batch: true\n", "  batch: true\n  proposer: writer\n"))
    status, out, _ = cli("check", spec)
    assert status == 0, out
    made: list[str] = []
    program = lmprog.load(spec).batched(lambda lm: made.append(lm.id) or object())  # type: ignore[func-returns-value]
    assert made == ["lm"] and not program.plan.lms["writer"].batch
