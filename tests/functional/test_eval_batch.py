"""`lmprog eval --batch` and `--dry-run`, against a stand-in for a provider's batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

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
modules: {ask: {inputs: {text: str}, outputs: {said: str}, prompt: {user: "{{ text }}"}}}
steps: {a: {module: ask, with: {text: "${{ inputs.text }}"}}}
data: {test: rows.jsonl}
metrics:
  same: {python: "./metrics.py:same", with: {said: "${{ outputs.said }}", wanted: "${{ row.text }}"}}
  liked: {program: judge.yaml, with: {said: "${{ outputs.said }}"}}
"""
JUDGE = """
lmprog: 1
name: judge
inputs: {said: str}
outputs: {score: "${{ steps.j.score }}"}
lms: {critic: {model: openai/judge, api_base: URL, api_key: none-needed, context: 1000, price: {input: 4, output: 8}}}
modules: {judge: {inputs: {said: str}, outputs: {score: float}, prompt: {user: "{{ said }}"}}}
steps: {j: {module: judge, with: {said: "${{ inputs.said }}"}}}
"""


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[BatchServer]:
    monkeypatch.setattr(batches, "QUIET", 0.03)
    monkeypatch.setattr(batches, "FIRST_POLL", 0.01)
    monkeypatch.setenv("LMPROG_CACHE", str(tmp_path / "cache"))
    made = BatchServer()
    yield made
    made.close()


@pytest.fixture
def spec(write, provider) -> Path:
    write("def same(said: str, wanted: str) -> bool:\n    return said == wanted\n", "metrics.py")
    write("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(50)), "rows.jsonl")
    write(JUDGE.replace("URL", provider.url), "judge.yaml")
    path: Path = write(SPEC.replace("URL", provider.url))
    return path


def test_all_rows_are_one_batch_and_the_judge_s_calls_another(cli, spec, provider) -> None:
    provider.answer = lambda body: (200, reply("1" if body["model"] == "judge" else body["messages"][-1]["content"]))
    status, out, err = cli("eval", spec, "--metric", "same,liked", "--batch", "--format", "json")
    assert status == 0, err
    found = json.loads(out)
    assert found["mean"] == 1.0
    assert [batch["request_counts"]["total"] for batch in provider.batches.values()] == [50, 50]
    assert "batch batch_0 is completed, 50 of 50 done" in err
    assert list((spec.parent / "cache/batches").glob("*.json")) == []


def test_a_batch_costs_half_in_a_dry_run_that_asks_nothing(cli, spec, provider) -> None:
    costs = {}
    for more in ((), ("--batch",)):
        status, out, err = cli("eval", spec, "--metric", "same,liked", "--dry-run", *more, "--format", "json")
        assert status == 0, err
        costs[more] = json.loads(out)["in_all"]
    assert provider.asked == []
    assert costs[()]["lm_calls"] == costs["--batch",]["lm_calls"] == 100
    assert costs["--batch",]["usd"] == pytest.approx(costs[()]["usd"] / 2)
    assert costs[()]["usd"] > 0
    status, out, _ = cli("eval", spec, "--metric", "same", "--dry-run")
    assert status == 0 and "USD" in out and "50" in out


def test_a_program_whose_provider_has_no_batches_is_refused(cli, spec, provider) -> None:
    for more in ((), ("--dry-run",)):
        status, _, err = cli("eval", spec, "--metric", "same", "--batch", "--lm", "lm=anthropic/x", *more)
        assert status == 2 and "has no batches that lmprog knows how to ask for" in err
