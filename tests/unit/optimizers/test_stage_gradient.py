"""The gradient of one step of the whole stage - program with a loop, rollouts, groups, advantages, rows, trainer - against
the rollouts' own records, taken one by one in plain PyTorch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from lmprog.lms.local import local_lm  # noqa: E402
from lmprog.optimizers.grpo import stage, trainer  # noqa: E402
from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.rollouts import Wave  # noqa: E402
from lmprog.optimizers.optimizer import Task  # noqa: E402


@pytest.fixture
def watched(monkeypatch) -> Callable[..., tuple[list[Wave], dict[str, Any]]]:
    """Runs one step of the stage; gives its wave, and what `by_hand(model, wave)` and the trainer find for gradients."""

    def run(task: Task, config: Config, by_hand: Callable[[Any, Wave], Any]) -> tuple[Wave, Any, Any]:
        import peft

        waves: list[Wave] = []
        found: list[Any] = []
        collect, training_step, lora = stage.collect, trainer.ProgramTrainer.training_step, peft.LoraConfig

        async def collected(*args: Any, **kwargs: Any) -> Wave:
            waves.append(await collect(*args, **kwargs))
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

        monkeypatch.setattr(stage, "collect", collected)
        monkeypatch.setattr(trainer.ProgramTrainer, "training_step", stepped)
        # A fresh adapter changes nothing, so half of its gradients and all of the KL term would be 0.
        monkeypatch.setattr(peft, "LoraConfig", lambda **how: lora(**how, init_lora_weights=False))
        stage.WeightStage(task, config).run()
        ((got, expected),) = found
        (wave,) = waves
        return wave, got, expected

    return run


def gradients(model: Any) -> dict[str, Any]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.requires_grad}


def advantages_by_hand(wave: Wave, level: str) -> list[tuple[float, list[Any]]]:
    """(advantage, calls) of each member with a signal: of a call at module level, of a run at trajectory level."""
    found = []
    for example in dict.fromkeys(run.example for run in wave.rollouts):
        runs = [run for run in wave.rollouts if run.example == example]
        if level == "trajectory":
            positions = [[(run.reward, list(run.invocations)) for run in runs]]
        else:
            keys = sorted({(made.module, made.call) for run in runs for made in run.invocations})
            positions = [
                [(run.reward, [made]) for run in runs for made in run.invocations if (made.module, made.call) == key]
                for key in keys
            ]
        for members in positions:
            rewards = [reward for reward, _ in members]
            compared = rewards if len(members) > 1 else [run.reward for run in runs]
            mean, deviation = statistics.fmean(compared), statistics.pstdev(compared)
            if not math.isclose(min(compared), max(compared)):
                found += [((reward - mean) / deviation, calls) for reward, calls in members]
    return found


def written_out(
    level: str, beta: float, temperature: dict[str, float], adapter_of: dict[str, str]
) -> Callable[[Any, Wave], dict[str, Any]]:
    def logprobs(model: Any, made: Any) -> Any:
        ids = torch.tensor([[*made.prompt_token_ids, *made.token_ids]])
        logits = model(input_ids=ids).logits[0, len(made.prompt_token_ids) - 1 : -1].float()
        spread = (logits / temperature.get(made.module, 1.0)).log_softmax(-1)
        return spread.gather(1, torch.tensor(made.token_ids).unsqueeze(1)).squeeze(1)

    def by_hand(model: Any, wave: Wave) -> dict[str, Any]:
        members = advantages_by_hand(wave, level)
        tokens = sum(len(made.token_ids) for _, calls in members for made in calls)
        model.zero_grad()
        for advantage, calls in members:
            of_run = sum(len(made.token_ids) for made in calls)
            divisor = len(members) * of_run if level == "trajectory" else tokens
            for made in calls:
                model.set_adapter(adapter_of[made.module])
                own = logprobs(model, made)
                assert own.tolist() == pytest.approx(made.logprobs, abs=1e-4)  # sampled with the adapter that it trains
                ratio = torch.exp(own - own.detach())
                loss = -advantage * ratio
                if beta:
                    with torch.no_grad(), model.disable_adapter():
                        base = logprobs(model, made)
                    model.set_adapter(adapter_of[made.module])
                    # Times the ratio, so that its gradient is that of the reverse KL (arXiv 2512.02556), as TRL has it.
                    loss = loss + beta * ratio * (torch.exp(base - own) - (base - own) - 1)
                (loss.sum() / divisor).backward()
        model.set_requires_grad([*adapter_of.values()])
        return gradients(model)

    return by_hand


@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize("level", ["module", "trajectory"])
@pytest.mark.parametrize("adapters", ["per_lm", "per_module"])
def test_the_gradient_of_a_step_is_that_of_its_rollouts_one_by_one(
    research, watched, tmp_path, level: str, beta: float, adapters: str
) -> None:
    heats = {"query": 0.7}
    config = Config(
        steps=1, examples=3, rollouts=5, level=level, beta=beta, temperature=heats, no_signal="drop", max_grad_norm=1e9
    ).model_copy(update={"tree_tokens": 60 if beta else 1024})  # fewer than a user may ask for: some passes
    task = research(tmp_path, ("  metric: letters\n", f"  metric: letters\n  adapters: {adapters}\n"))
    adapter_of = {"query": "training-000", "answer": "training-001" if adapters == "per_module" else "training-000"}
    wave, found, expected = watched(task, config, written_out(level, beta, heats, adapter_of))
    calls = {(run.example, sum(made.module == "query" for made in run.invocations)) for run in wave.rollouts}
    assert len(calls) > 3  # the loop ends at different turns for the runs of one example
    assert found.keys() == expected.keys() and len(found) == 28 * len({*adapter_of.values()})
    for name, gradient in found.items():
        assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()), name
        assert float(expected[name].norm()) > 0, name
