"""`lmprog optimize` with `grpo` whose rollouts a server of vLLM samples: a stand-in that speaks its protocol, errors too."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

from tests.functional.vllm_server import VllmServer

pytestmark = pytest.mark.model

PROGRAM = """
lmprog: 1
name: letters
inputs: {text: str}
lms:
  lm: {model: hosted_vllm/tiny, weights: hf/MODEL, api_base: "BASE", params: {max_tokens: 4, temperature: 0}}
modules:
  say: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Say a}
data: {train: rows.jsonl, dev: dev.jsonl}
metrics:
  letters: {python: ./metrics.py:letters, with: {said: "${{ outputs.said }}"}}
optimize:
  metric: letters
  accept: point
  tune: {say: [weights]}
  stages:
    - grpo: {steps: STEPS, examples: 4, rollouts: 6, learning_rate: 0.02, evaluate_every: 4, lora: {rank: 4, alpha: 8}}
"""
METRICS = "def letters(said: str) -> float:\n    return said.count('a') / 4\n"


@pytest.fixture
def server(tiny_model, monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmServer]:
    """On weights of its own in fp32, as those that are trained here."""
    from lmprog.lms import api, local
    from lmprog.lms.local import weights

    monkeypatch.setattr(weights, "fast_in_bfloat16", lambda: False)
    monkeypatch.setattr(local, "_loaded", {})
    monkeypatch.setattr(api, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(api, "MAX_WAIT", 0.05)
    made = VllmServer(tiny_model())
    yield made
    made.close()


@pytest.fixture
def letters(tiny_model, write, server) -> Callable[..., Path]:
    """Writes a program that is to say a lot of a."""

    def make(steps: int = 8, **replaced: str) -> Path:
        write(METRICS, "metrics.py")
        for name, count in (("rows.jsonl", 8), ("dev.jsonl", 12)):
            write("".join(json.dumps({"text": f"{name[0]}{n}"}) + "\n" for n in range(count)), name)
        text = PROGRAM.replace("MODEL", str(tiny_model())).replace("BASE", server.url).replace("STEPS", str(steps))
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        return write(text)

    return make


@pytest.fixture
def optimized(cli) -> Callable[..., dict[str, Any]]:
    def run(spec: Path, *more: str, folder: str = "run") -> dict[str, Any]:
        status, out, err = cli("optimize", spec, "--run-dir", spec.parent / folder, "--format", "json", *more)
        assert status == 0, err
        report: dict[str, Any] = json.loads(out)
        return report

    return run


def events_of(folder: Path, kind: str = "step") -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == kind]


def rollouts_of(server: VllmServer) -> list[dict[str, Any]]:
    return [body for body in server.asked if body["temperature"] > 0]


def test_what_a_server_samples_is_trained_here_and_shown_to_it_after_each_step(cli, letters, optimized, server) -> None:
    import yaml

    spec = letters()
    report = optimized(spec)
    assert report["stages"][0]["validate"]["mean"] > 0.3
    steps = events_of(spec.parent / "run")
    assert len(steps) == 8 and all(step["unmatched"] == 0 for step in steps)
    trained = [step for step in steps if step["rows"]]
    # The same weights in the same number format: the log-probabilities of both differ by rounding alone.
    assert trained and all(0 <= step["mismatch"] <= step["mismatch_max"] < 1e-3 for step in trained)
    assert all(step["truncated"] == 0 for step in trained)
    # Every rollout named weights in training, each step others, and none that are not asked for were kept.
    names = list(dict.fromkeys(body["model"] for body in rollouts_of(server)))
    assert len(names) >= 5 and all(name.startswith("lmprog-") for name in names)
    assert [name for told, name in server.told if told == "load"][: len(names)] == names
    assert [told for told, _ in server.told] == ["load", "unload"] * (len(server.told) // 2) + ["load"]
    body = rollouts_of(server)[0]
    assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (1.0, 1.0, -1, 0.0)
    assert not (spec.parent / "run/1-grpo/served").exists()
    # What comes out is an adapter of the weights here, which the server takes too.
    overlay = spec.with_name("program.tuned.yaml")
    written = yaml.safe_load(overlay.read_text())["lms"]["lm"]["adapter"]
    assert written["base"].startswith("hf/")
    assert list(server.loaded) == [f"lmprog-{written['sha256'][:16]}"]
    assert cli("check", overlay)[0] == 0
    status, out, err = cli("eval", overlay, "--split", "dev", "--format", "json")
    assert status == 0, err
    assert json.loads(out)["mean"] == report["stages"][0]["validate"]["mean"]


def test_a_server_that_was_started_anew_gets_the_adapter_again(letters, optimized, server) -> None:
    def restart(reply: dict[str, Any]) -> None:
        if len(server.asked) in (20, 50):
            server.loaded.clear()

    server.mangle = restart
    spec = letters(steps=3)
    optimized(spec)
    assert all(step["lost"] == 0 for step in events_of(spec.parent / "run"))
    loads = [name for told, name in server.told if told == "load"]
    assert len(loads) > len(set(loads))


def test_two_servers_of_which_one_is_restarted_and_one_is_cut_lose_no_row(
    letters, optimized, server, tiny_model, monkeypatch
) -> None:
    from lmprog.lms.api import fleet

    monkeypatch.setattr(fleet, "FIRST_OUT", 0.05)
    quiet = letters(steps=3)
    optimized(quiet, folder="quiet")
    server.loaded.clear()
    second = VllmServer(tiny_model())
    try:
        to_come = ["restart", "cut", "restart"]

        def disturb(reply: dict[str, Any]) -> None:
            asked = len(server.asked) + len(second.asked) - before
            if to_come and asked >= 40 * (4 - len(to_come)):
                if to_come.pop(0) == "cut":
                    second.cut = 6
                else:
                    server.loaded.clear()

        before = len(server.asked)
        server.mangle = second.mangle = disturb
        spec = letters(steps=3, **{f'"{server.url}"': f'["{server.url}", "{second.url}"]'})
        optimized(spec, folder="fleet")
    finally:
        second.close()
    assert not to_come and second.cut < 6 and rollouts_of(second)
    wanted, found = (events_of(spec.parent / folder) for folder in ("quiet", "fleet"))
    for key in ("rows", "lost", "unmatched", "reward"):
        assert [step[key] for step in found] == [step[key] for step in wanted]
    assert all(step["mismatch_max"] < 1e-3 for step in found if step["rows"])
    loads = [name for told, name in server.told if told == "load"]
    assert len(loads) > len(set(loads))


def test_a_server_that_is_not_ready_is_asked_again(letters, optimized, server) -> None:
    server.failing = [503, 500]
    optimized(letters(steps=1))
    assert server.told[0][0] == "load"


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("runtime_lora", False, "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"),
        ("max_lora_rank", 2, "start the server with a --max-lora-rank that is as high"),
        ("max_loras", 0, "start the server with a higher --max-loras"),
        ("sees", lambda folder: False, "a folder that the server sees"),
        ("failing", [500] * 99, "engine is not ready"),
    ],
)
def test_why_a_server_does_not_take_the_weights_is_said_with_what_to_do(
    cli, letters, server, setting: str, value: Any, words: str
) -> None:
    setattr(server, setting, value)
    spec = letters(steps=1)
    status, _, err = cli("optimize", spec, "--run-dir", spec.parent / "run")
    assert status == 3
    assert "the weights of 'lm' after step 0 are not on the server that samples" in err and words in err
    assert rollouts_of(server) == [] and server.loaded == {}


def test_a_run_that_is_ended_leaves_no_adapter_and_goes_on_with_nothing_asked_again(
    cli, letters, optimized, server, monkeypatch
) -> None:
    from lmprog.optimizers.grpo.stage import WeightStage

    spec = letters(steps=2)
    optimized(spec, folder="whole")
    asked = len(server.asked)
    server.loaded.clear()
    inner = WeightStage.end_of_step

    def cut(self: WeightStage, step: int, *figures: Any) -> None:
        if step == 2:
            raise KeyboardInterrupt
        inner(self, step, *figures)

    monkeypatch.setattr(WeightStage, "end_of_step", cut)
    assert cli("optimize", spec, "--run-dir", spec.parent / "cut")[0] == 130
    assert server.loaded == {}
    monkeypatch.setattr(WeightStage, "end_of_step", inner)
    optimized(spec, "--resume", folder="cut")
    assert len(server.asked) == 2 * asked
    whole, again = (
        (spec.parent / folder / "1-grpo/adapters-2/lm/adapter_model.safetensors") for folder in ("whole", "cut")
    )
    assert whole.read_bytes() == again.read_bytes()


def test_an_adapter_whose_load_is_cut_does_not_stay(cli, letters, server, monkeypatch) -> None:
    from lmprog.lms.api import ApiLM

    inner = ApiLM.load

    async def cut(self: ApiLM, adapter: Any) -> None:
        await inner(self, adapter)
        raise KeyboardInterrupt

    monkeypatch.setattr(ApiLM, "load", cut)
    spec = letters(steps=1)
    assert cli("optimize", spec, "--run-dir", spec.parent / "run")[0] == 130
    assert [told for told, _ in server.told] == ["load", "unload"] and server.loaded == {}


def test_what_a_life_that_was_killed_left_on_the_server_is_unloaded(
    cli, letters, optimized, server, monkeypatch
) -> None:
    from lmprog.optimizers.grpo.sampling.served import Served
    from lmprog.optimizers.grpo.stage import WeightStage

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    async def nothing(self: Served) -> None:
        pass

    spec = letters(steps=1)
    with monkeypatch.context() as patched:
        patched.setattr(WeightStage, "end_of_step", killed)
        patched.setattr(Served, "close", nothing)
        assert cli("optimize", spec, "--run-dir", spec.parent / "run")[0] == 130
    (left,) = server.loaded
    server.max_loras = 2
    optimized(spec, "--resume")
    assert ("unload", left) in server.told and left not in server.loaded


def test_a_sampler_that_differs_is_measured_and_weighed(letters, optimized, server) -> None:
    server.temperature_scale = 3.0
    spec = letters(steps=2)
    optimized(spec)
    steps = [step for step in events_of(spec.parent / "run") if step["rows"]]
    assert steps and all(step["mismatch_max"] > step["mismatch"] > 0.1 for step in steps)
    assert all(0 < step["truncated"] < 1 for step in steps)
    (note,) = [
        event["text"] for event in events_of(spec.parent / "run", "note") if "processed_logprobs" in event["text"]
    ]
    assert "differ by" in note


def test_replies_whose_tokens_are_not_ours_are_counted_and_not_trained(letters, optimized, server) -> None:
    count = itertools.count()

    def mangle(reply: dict[str, Any]) -> None:
        if reply["model"] == "tiny":
            return
        choice, kind = reply["choices"][0], next(count) % 4
        if kind == 0:
            del choice["token_ids"]
        elif kind == 1:
            choice["logprobs"]["content"].append(choice["logprobs"]["content"][0])
        elif kind == 2:
            choice["token_ids"][0] = 98_000

    server.mangle = mangle
    spec = letters(steps=2, **{"evaluate_every: 4": "evaluate_every: 4, no_signal: drop"})
    optimized(spec)
    steps = events_of(spec.parent / "run")
    assert all(0 < step["unmatched"] < 24 and step["rows"] <= 24 - step["unmatched"] for step in steps)


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ("token_ids", "came without the ids of its tokens; serve it with a vLLM that knows `return_token_ids`"),
        ("logprobs", "came without a log-probability for each token"),
        ("message", "came of other tokens than those of hf/"),
    ],
)
def test_a_server_of_which_nothing_can_be_trained_ends_the_stage(
    cli, letters, server, lacking: str, words: str
) -> None:
    def mangle(reply: dict[str, Any]) -> None:
        choice = reply["choices"][0]
        if lacking == "message":
            choice["message"]["content"] += "\n of another model"
        else:
            del choice[lacking]

    server.mangle = mangle
    spec = letters(steps=1)
    status, _, err = cli("optimize", spec, "--run-dir", spec.parent / "run")
    assert status != 0 and "replies of the server can be trained" in err and words in err
    assert server.loaded == {}


def test_dry_run_counts_the_calls_and_asks_no_server(cli, letters, server) -> None:
    spec = letters(steps=8)
    status, out, err = cli("optimize", spec, "--dry-run", "--format", "json")
    assert status == 0, err
    # Three waves of 4 examples and 6 runs a step at most; dev is scored before and after each fourth step.
    assert json.loads(out)["parts"][0]["lm_calls"] == 8 * 3 * 4 * 6 + 3 * 12 + 8 * (1 + 4 * 6)
    assert server.asked == [] and server.told == []


def test_prompts_and_weights_at_once_on_a_server(letters, optimized, server) -> None:
    spec = letters(
        steps=2,
        **{
            "- grpo: {": "- fast_slow: {every: 1, trials: 2, rows: 4, ",
            "say: [weights]": "say: [weights, instructions]",
        },
    )
    spec.write_text(spec.read_text() + "  instructions: {say: [Say that]}\n")
    optimized(spec)
    steps = events_of(spec.parent / "run")
    assert len(steps) == 2 and all(step["unmatched"] == 0 for step in steps)
    assert all(step["mismatch_max"] < 1e-3 for step in steps if step["rows"])
    assert {body["model"] for body in rollouts_of(server)} < {"tiny"} | {name for _, name in server.told}


def test_the_next_waves_are_sampled_while_one_is_trained_with_weights_that_are_as_old_as_allowed(
    letters, optimized, server
) -> None:
    server.max_loras = 3
    spec = letters(steps=5, **{"evaluate_every: 4": "evaluate_every: 2, staleness: 2"})
    report = optimized(spec)
    steps = events_of(spec.parent / "run")
    assert len(steps) == 5 and all(step["lost"] == step["stale"] == step["unmatched"] == 0 for step in steps)
    assert [step["age"] for step in steps if step["rows"]] == [
        age for age, step in zip([0, 1, 2, 2, 2], steps, strict=True) if step["rows"]
    ]
    # What older weights sampled is likelier or less likely now, and counts by it.
    assert steps[0]["mismatch_max"] < 1e-3 and any(step["mismatch_max"] > 1e-3 for step in steps[2:] if step["rows"])
    names = list(dict.fromkeys(body["model"] for body in rollouts_of(server)))
    assert len(names) <= 3
    assert report["stages"][0]["validate"]["mean"] >= 0
    assert not (spec.parent / "run/1-grpo/served").exists()
    assert len(server.loaded) <= 1


def test_staleness_with_one_place_for_adapters_says_what_the_server_wants(cli, letters, server) -> None:
    spec = letters(steps=3, **{"evaluate_every: 4": "evaluate_every: 2, staleness: 1"})
    status, _, err = cli("optimize", spec, "--run-dir", spec.parent / "run")
    assert status == 3 and "start the server with a higher --max-loras" in err
    assert server.loaded == {}


def test_a_pipeline_that_is_ended_goes_on_after_its_last_whole_step(
    cli, letters, optimized, server, monkeypatch
) -> None:
    from lmprog.optimizers.grpo.stage import WeightStage

    server.max_loras = 2
    spec = letters(steps=3, **{"evaluate_every: 4": "evaluate_every: 4, staleness: 1, no_signal: drop"})
    inner = WeightStage.end_of_step

    def cut(self: WeightStage, step: int, *figures: Any) -> None:
        if step == 2:
            raise RuntimeError("cut")
        inner(self, step, *figures)

    monkeypatch.setattr(WeightStage, "end_of_step", cut)
    with pytest.raises(RuntimeError, match="cut"):
        cli("optimize", spec, "--run-dir", spec.parent / "run")
    assert server.loaded == {}
    monkeypatch.setattr(WeightStage, "end_of_step", inner)
    optimized(spec, "--resume")
    steps = events_of(spec.parent / "run")
    assert [step["step"] for step in steps] == [1, 2, 3]
    # A wave that was sampled beforehand and not trained is sampled again: no example is passed over.
    assert [step["taken"] for step in steps] == [4, 8, 12]
