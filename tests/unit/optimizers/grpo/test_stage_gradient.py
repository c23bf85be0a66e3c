"""The gradient of one step of the whole stage - program with a loop, rollouts, groups, advantages, rows, trainer - against
the rollouts' own records, taken one by one in plain PyTorch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from lmprog.lms.local import local_lm  # noqa: E402
from lmprog.optimizers.grpo import sampler, stage  # noqa: E402
from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Wave  # noqa: E402
from lmprog.optimizers.grpo.torch import trainer  # noqa: E402
from lmprog.optimizers.optimizer import Task  # noqa: E402


@pytest.fixture
def watched(monkeypatch) -> Callable[..., tuple[list[Wave], dict[str, Any]]]:
    """Runs one step of the stage; gives its wave, and what `by_hand(model, wave)` and the trainer find for gradients."""

    def run(
        task: Task, config: Config, by_hand: Callable[[Any, Wave], Any], apart: float = 0.0
    ) -> tuple[Wave, Any, Any]:
        import peft

        waves: list[Wave] = []
        found: list[Any] = []
        collect, training_step, lora = sampler.collect, trainer.ProgramTrainer.training_step, peft.LoraConfig

        async def collected(*args: Any, **kwargs: Any) -> Wave:
            wave = await collect(*args, **kwargs)
            waves.append(replace(wave, rollouts=tuple(of_another_engine(run, apart) for run in wave.rollouts)))
            return waves[-1]

        def stepped(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = training_step(self, *args, **kwargs)
            model = local_lm(task.program.lms["lm"]).weights.model
            got = gradients(model)
            expected = by_hand(model, waves[-1])
            found.append((got, expected))
            for name, parameter in model.named_parameters():
                parameter.grad = got.get(name)
            return result

        monkeypatch.setattr(sampler, "collect", collected)
        monkeypatch.setattr(trainer.ProgramTrainer, "training_step", stepped)
        # A fresh adapter changes nothing, so half of its gradients and all of the KL term would be 0.
        monkeypatch.setattr(peft, "LoraConfig", lambda **how: lora(**how, init_lora_weights=False))
        stage.grpo_stage(task, config).run()
        ((got, expected),) = found
        (wave,) = waves
        return wave, got, expected

    return run


def of_another_engine(run: Rollout, apart: float) -> Rollout:
    """The run as if its tokens had been sampled where each was likelier by `apart`, in units of log-probability."""
    calls = [replace(made, logprobs=[value + apart for value in made.logprobs]) for made in run.invocations]
    return replace(run, invocations=tuple(calls))


def gradients(model: Any) -> dict[str, Any]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.requires_grad}


Members = list[tuple[float, bool, list[Any]]]
"""(advantage, whether its group has a signal, calls) of each member: a call at module level, a run at trajectory level."""


def members_by_hand(wave: Wave, level: str, scale: str) -> Members:
    found: Members = []
    for example in dict.fromkeys(run.example for run in wave.rollouts):
        runs = [run for run in wave.rollouts if run.example == example]
        if level == "trajectory":
            positions = [[(run.reward, list(run.invocations)) for run in runs]]
        else:
            keys = sorted({(made.module, made.call) for run in runs for made in run.invocations})
            positions = [
                [
                    (run.reward_of(made.module), [made])
                    for run in runs
                    for made in run.invocations
                    if (made.module, made.call) == key
                ]
                for key in keys
            ]
        for members in positions:
            rewards = [reward for reward, _ in members]
            followed = None if level == "trajectory" else members[0][1][0].module
            compared = rewards if len(members) > 1 else [run.reward_of(followed) for run in runs]
            mean, deviation = statistics.fmean(compared), statistics.pstdev(compared)
            gaps = [0.0 if math.isclose(reward, mean, abs_tol=1e-9) else reward - mean for reward in rewards]
            divisor = deviation if scale == "group" and deviation > 1e-9 else 1.0
            found += [(gap / divisor, any(gaps), calls) for gap, (_, calls) in zip(gaps, members, strict=True)]
    return found


def weights_by_hand(members: Members, level: str, weighting: str) -> list[list[float]]:
    """Of each call of each member, the weight of each of its tokens."""
    tokens = [sum(len(made.token_ids) for made in calls) for _, _, calls in members]
    plain = [
        [1 / (len(members) * own) if level == "trajectory" else 1 / sum(tokens)] * len(calls)
        for own, (_, _, calls) in zip(tokens, members, strict=True)
    ]
    shares: dict[str, float] = {}
    for of_calls, (_, _, calls) in zip(plain, members, strict=True):
        for weight, made in zip(of_calls, calls, strict=True):
            shares[made.module] = shares.get(made.module, 0.0) + weight * len(made.token_ids)
    return [
        [
            weight / shares[made.module] / len(shares) if weighting == "modules" else weight
            for weight, made in zip(of_calls, calls, strict=True)
        ]
        for of_calls, (_, _, calls) in zip(plain, members, strict=True)
    ]


def written_out(
    config: Config, adapter_of: dict[str, str], apart: float = 0.0
) -> Callable[[Any, Wave], dict[str, Any]]:
    def logprobs(model: Any, made: Any) -> Any:
        ids = torch.tensor([[*made.prompt_token_ids, *made.token_ids]])
        logits = model(input_ids=ids).logits[0, len(made.prompt_token_ids) - 1 : -1].float()
        spread = (logits / config.temperature_of(made.module)).log_softmax(-1)
        return spread.gather(1, torch.tensor(made.token_ids).unsqueeze(1)).squeeze(1)

    def by_hand(model: Any, wave: Wave) -> dict[str, Any]:
        members = members_by_hand(wave, config.level, config.scale or "none")
        if config.overlong == "mask":
            members = [
                (advantage, signal, [made for made in calls if made.finish_reason != "length"])
                for advantage, signal, calls in members
            ]
            members = [member for member in members if member[2]]
        teaching = [member for member in members if member[1]]
        every = weights_by_hand(members, config.level, config.weighting)
        kept = iter(weights_by_hand(teaching, config.level, config.weighting))
        model.zero_grad()
        for weights, (advantage, signal, calls) in zip(every, members, strict=True):
            of_policy = weights if config.normalise == "all" else next(kept) if signal else [0.0] * len(calls)
            for policy, divergence, made in zip(of_policy, weights, calls, strict=True):
                model.set_adapter(adapter_of[made.module])
                own = logprobs(model, made)
                # Sampled with the adapter that it trains.
                assert own.tolist() == pytest.approx([value - apart for value in made.logprobs], abs=1e-4)
                ratio = torch.exp(own - own.detach())
                weight = (own.detach() - torch.tensor(made.logprobs)).exp().clamp(max=config.importance_sampling_cap)
                loss = -advantage * ratio * policy * weight
                if config.beta:
                    with torch.no_grad(), model.disable_adapter():
                        base = logprobs(model, made)
                    model.set_adapter(adapter_of[made.module])
                    # Times the ratio, so that its gradient is that of the reverse KL (arXiv 2512.02556), as TRL has it.
                    loss = loss + divergence * config.beta * ratio * (torch.exp(base - own) - (base - own) - 1)
                loss.sum().backward()
        model.set_requires_grad([*adapter_of.values()])
        return gradients(model)

    return by_hand


def compared(
    research, watched, folder, config: Config, adapters: str = "per_lm", apart: float = 0.0, reward: str = "letters"
) -> Wave:
    metrics = "metrics:\n  odd: {value: (trace.modules.query.reply_tokens % 3) / 2}\n"
    task = research(
        folder,
        ("  metric: letters\n", f"  metric: letters\n  adapters: {adapters}\n  reward: {reward}\n"),
        ("metrics:\n", metrics),
    )
    adapter_of = {"query": "training-000", "answer": "training-001" if adapters == "per_module" else "training-000"}
    wave, found, expected = watched(task, config, written_out(config, adapter_of, apart), apart)
    assert found.keys() == expected.keys() and len(found) == 28 * len({*adapter_of.values()})
    for name, gradient in found.items():
        assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()), name
        assert float(expected[name].norm()) > 0, name
    (step,) = (event for event in task.journal.events if event["event"] == "step")
    assert step["mismatch"] == pytest.approx(abs(apart), abs=1e-4) and step["mismatch_max"] >= step["mismatch"]
    assert step["mismatch_outside"] == float(not 0.8 < math.exp(-apart) < 1.2)
    assert step["truncated"] == float(math.exp(-apart) > config.importance_sampling_cap)
    return wave


PLAIN = {
    "steps": 1,
    "examples": 3,
    "rollouts": 5,
    "no_signal": "drop",
    "max_grad_norm": 1e9,
    "credit": 0,
    "temperature": {"query": 0.7},
}


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize("level", ["module", "trajectory"])
@pytest.mark.parametrize("adapters", ["per_lm", "per_module"])
def test_the_gradient_of_a_step_is_that_of_its_rollouts_one_by_one(
    research, watched, tmp_path, level: str, beta: float, adapters: str
) -> None:
    config = Config(level=level, beta=beta, scale="group", weighting="tokens", **PLAIN)
    config = config.model_copy(
        update={"tree_tokens": 60 if beta else 1024}
    )  # fewer than a user may ask for: some passes
    wave = compared(research, watched, tmp_path, config, adapters)
    calls = {(run.example, sum(made.module == "query" for made in run.invocations)) for run in wave.rollouts}
    assert len(calls) > 3  # the loop ends at different turns for the runs of one example


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},  # the scale of a graded reward, modules with equal shares
        {"normalise": "all"},
        {"normalise": "all", "beta": 0.2, "weighting": "tokens"},
        {"overlong": "mask", "beta": 0.2},
        {"level": "trajectory", "normalise": "all", "weighting": "modules", "beta": 0.1},
    ],
)
def test_the_gradient_with_each_option_of_the_loss(research, watched, tmp_path, options: dict[str, Any]) -> None:
    config = Config(**PLAIN, **options)
    wave = compared(research, watched, tmp_path, config)
    members = members_by_hand(wave, config.level, "none")
    assert config.level == "trajectory" or {signal for _, signal, _ in members} == {True, False}
    if config.overlong == "mask":
        cut = [made.finish_reason == "length" for run in wave.rollouts for made in run.invocations]
        assert any(cut) and not all(cut)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.3, -0.15, -1.0])
def test_a_token_counts_as_likely_as_it_is_in_training_against_where_it_was_sampled(
    research, watched, tmp_path, apart: float
) -> None:
    compared(research, watched, tmp_path, Config(beta=0.1, **PLAIN), apart=apart)


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["odd", "{query: odd}"])
def test_the_gradient_follows_the_reward(research, watched, tmp_path, reward: str) -> None:
    wave = compared(research, watched, tmp_path, Config(**PLAIN), reward=reward)
    tokens = [sum(len(made.token_ids) for made in run.invocations if made.module == "query") for run in wave.rollouts]
    assert [run.reward_of("query") for run in wave.rollouts] == [count % 3 / 2 for count in tokens]
    assert any(run.reward_of("answer") != run.reward_of("query") for run in wave.rollouts) == (reward != "odd")
