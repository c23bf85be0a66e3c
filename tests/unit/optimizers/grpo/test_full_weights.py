"""A stage that trains all weights of a model: a model of its own learns, is sampled, and comes out as a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from safetensors.torch import load_file  # noqa: E402

from lmprog.compiler.plan import AdapterReference  # noqa: E402
from lmprog.errors import UsageError  # noqa: E402
from lmprog.lms.local import local_lm  # noqa: E402
from lmprog.optimizers import processes  # noqa: E402
from lmprog.optimizers.candidate import START  # noqa: E402
from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.policy import Policy  # noqa: E402
from lmprog.optimizers.grpo.sampling.adapters import adapters_of, models_in, trainable_whole  # noqa: E402
from lmprog.optimizers.grpo.stage import grpo_stage  # noqa: E402

OPTIONS = {
    "steps": 2,
    "examples": 3,
    "rollouts": 6,
    "evaluate_every": 1,
    "probe": 0,
    "credit": 0,
    "learning_rate": 0.01,
}


@pytest.mark.slow
def test_a_model_of_its_own_learns_and_comes_out(research, tmp_path: Path) -> None:
    task = research(tmp_path)
    base = local_lm(task.program.lms["lm"]).weights.base
    before = {name: value.clone() for name, value in base.state_dict().items()}
    stage = grpo_stage(task, Config(full=True, temperature=1.0, **OPTIONS))
    chosen = stage.run()
    # The model that the program names is as it was: judges and other modules may run on it.
    assert all(torch.equal(base.state_dict()[name], value) for name, value in before.items())
    (trained,) = stage.policy.lms.values()
    learnt = dict(trained.weights.base.named_parameters())
    changed = [name for name, value in learnt.items() if not torch.equal(value, before[name].to(value.dtype))]
    assert len(changed) > 10
    out = tmp_path / "out"
    stage.policy.save(out)
    kept = load_file(out / "lm" / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in learnt.items() if name in kept)
    change = models_in(out, stage.policy.adapters)
    assert change.as_overlay() == {"lms": {"lm": {"model": f"hf/{out / 'lm'}"}}}
    assert chosen == START or chosen.models["lm"]["model"].endswith("/lm")
    tuned = task.program.with_candidate(change)
    found = local_lm(tuned.lms["lm"]).weights.base
    assert all(torch.equal(value, learnt[name].to(value.dtype)) for name, value in found.named_parameters())


@pytest.mark.parametrize("message", ["trains one model", "merge that first"])
def test_what_is_not_tested_is_refused(research, tmp_path: Path, message: str) -> None:
    plan = research(tmp_path).program.plan
    if message == "trains one model":
        plan = replace(plan, optimize=replace(plan.optimize, adapters="per_module"))
    else:
        plan = replace(plan, lms={"lm": replace(plan.lms["lm"], adapter=AdapterReference("somewhere"))})
    with pytest.raises(UsageError, match=message):
        trainable_whole(adapters_of(plan)[-1], plan)


def test_several_processes_share_the_weights_or_are_refused(research, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(UsageError, match="with --fsdp alone"):
        Policy(research(tmp_path).program, tmp_path, print, full=True)


@pytest.mark.parametrize("other", [{"beta": 0.1}, {"staleness": 1}, {"lora": {"rank": 4}}])
def test_options_that_say_nothing_beside_it_are_refused(other) -> None:
    with pytest.raises(ValueError, match=next(iter(other))):
        Config.model_validate({"full": True, **other})
