"""Two processes that share the rows of a step, and with FSDP the weights too, make the update that one makes on all of them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from transformers import TrainerCallback  # noqa: E402

from lmprog.optimizers import processes  # noqa: E402
from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.math.training_rows import Row  # noqa: E402
from lmprog.optimizers.grpo.ranks import shares  # noqa: E402
from lmprog.optimizers.grpo.torch.sharded import whole  # noqa: E402
from tests.ports import reserved  # noqa: E402
from tests.unit.optimizers.conftest import small_llama  # noqa: E402

ROOT = Path(__file__).resolve().parents[4]
CASES = {
    "tokens": ({}, [6, 0, 1, 7]),
    "replies, with KL": ({"loss": "grpo", "beta": 0.3}, [6, 1]),
    "two updates of a wave": ({"updates": 2, "learning_rate": 0.05}, [6, 0]),
    "some passes": ({"updates": 2, "learning_rate": 0.01, "beta": 0.3, "tree_tokens": 20}, [7, 3]),
}
"""Options, and how many rows each step has: fewer than processes too, none, and more for one of them."""


def rows(count: int, step: int) -> list[Row]:
    draw = torch.Generator().manual_seed(3 + step)

    def ids(count: int) -> list[int]:
        return torch.randint(2, 64, (count,), generator=draw).tolist()

    head = ids(12)
    return [Row(head + ids(2 + n % 2), ids(1 + n), (-1) ** n * (0.5 + n)) for n in range(count)]


SHARED = {
    **{name: {} for name in CASES},
    "some passes, activations computed again": {"gradient_checkpointing": True},
}
"""Cases in which the processes share the weights (FSDP), and the options beside those of the case that they begin with."""
WHOLE = ("tokens", "two updates of a wave")
"""Cases in which all weights are trained, and shared by the processes."""


def plain_llama() -> Any:
    """A small Llama without an adapter, whose head is its embedding."""
    from transformers import LlamaForCausalLM

    config = small_llama().config
    config.tie_word_embeddings = True
    torch.manual_seed(1)
    return LlamaForCausalLM(config)


class Grab(TrainerCallback):
    """Keeps the gradients of each update whole, as the optimizer gets them, and ends the training after step `until`."""

    def __init__(self, until: int | None = None) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        self.until = until

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        learning = ((n, p.grad) for n, p in model.models[0].named_parameters() if p.grad is not None)
        self.steps.append({name: whole(gradient).clone() for name, gradient in learning})

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.until


def train(
    case: str, folder: Path, make, fsdp: bool = False, until: int | None = None, resume: int | None = None
) -> list[dict[str, torch.Tensor]]:
    """The gradients of each update and the weights at the end, as this process sees them.

    The weights are those of the model that the trainer was given, which is sampled from.
    """
    from transformers import AutoTokenizer

    from lmprog.lms.embedded import model_folder
    from lmprog.optimizers.grpo.torch.sharded import TrainedCopy
    from lmprog.optimizers.grpo.torch.trained import TrainedAdapters
    from lmprog.optimizers.grpo.torch.trainer import ProgramTrainer

    options, counts = CASES[case.split(", activations")[0]]
    options = {**options, **(SHARED[case] if fsdp else {})}
    steps = len(counts) * options.get("updates", 1)
    every = 100 if until is None else until
    config = Config(steps=steps, rollouts=2, max_grad_norm=1e9, checkpoint_every=every).model_copy(update=options)
    model, grab = make(), Grab(until)
    checkpoints = config.gradient_checkpointing
    adapter = "default" if hasattr(model, "peft_config") else ""
    if fsdp and adapter and processes.first():
        # As the adapter that training begins from: the first process has it beside, to answer with.
        model.add_adapter("start", model.peft_config["default"])
    ProgramTrainer(
        TrainedCopy(model, adapter, shares=fsdp, checkpoints=checkpoints)
        if fsdp or not adapter
        else TrainedAdapters([(model, "default")], checkpoints=checkpoints),
        AutoTokenizer.from_pretrained(model_folder()),
        config,
        lambda step: rows(counts[step // config.updates], step),
        folder,
        0,
        [grab],
    ).train(str(folder / f"checkpoint-{resume}") if resume is not None else None)
    trained = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    return [*grab.steps, trained]


RESUMED = "two updates of a wave"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def together(folder: Path) -> list[dict[str, list[dict[str, torch.Tensor]]]]:
    """What each of two processes saw of each case."""
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    told |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with reserved() as port:
        ranks = [
            subprocess.Popen(
                [sys.executable, __file__, str(folder)],
                env={**os.environ, **told, "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]
        assert [rank.wait() for rank in ranks] == [0, 0]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


def same(found: list[dict[str, torch.Tensor]], alone: list[dict[str, torch.Tensor]], within: float) -> None:
    assert len(found) == len(alone)
    for mine, one in zip(found, alone, strict=True):
        assert mine.keys() == one.keys()
        for name, value in one.items():
            assert float((mine[name] - value).norm()) <= within * float(value.norm()) + 1e-9, name


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_update_of_one(case: str, together, tuned_llama, tmp_path: Path) -> None:
    alone = train(case, tmp_path, tuned_llama)
    for rank in together:
        same(rank[case], alone, 1e-4)


def are_those_of_one(name: str, together, one) -> None:
    """Assert that each process has the gradients of one, and the first one its weights; they are in a list, weights last."""
    *gradients, weights = one
    for rank in together:
        first, *later = rank[name][:-1]
        same([first], gradients[:1], 1e-5)
        # Those after an update are of weights that AdamW has moved apart: where a gradient is small its sign is its size.
        same(later, gradients[1:], 1e-4)
    # The first process samples from the weights, so that they are gathered there.
    same(together[0][name][-1:], [weights], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", SHARED)
def test_two_processes_that_share_the_weights_make_the_update_of_one(
    case: str, together, tuned_llama, tmp_path: Path
) -> None:
    are_those_of_one(f"shared, {case}", together, train(case, tmp_path, tuned_llama))


@pytest.mark.slow
@pytest.mark.parametrize("case", WHOLE)
def test_two_processes_train_all_weights_as_one_does(case: str, together, tmp_path: Path) -> None:
    are_those_of_one(f"whole, {case}", together, train(case, tmp_path, plain_llama))


@pytest.mark.slow
def test_a_run_that_trains_all_weights_goes_on_from_its_checkpoint(together) -> None:
    straight, resumed = together[0][f"whole, {RESUMED}"], together[0]["whole, resumed"]
    for mine, one in zip(resumed, straight[2:], strict=True):
        assert all(torch.equal(mine[name], value) for name, value in one.items())


@pytest.mark.slow
def test_a_run_that_shares_weights_goes_on_from_its_checkpoint(together, tuned_llama, folder: Path) -> None:
    first = together[0]
    straight, resumed = first[f"shared, {RESUMED}"], first["resumed"]
    assert len(straight) == 5 and len(resumed) == 3
    for mine, one in zip(resumed, straight[2:], strict=True):
        assert all(torch.equal(mine[name], value) for name, value in one.items())
    # Checkpoints are whole: one process goes on from it too.
    same(train(RESUMED, folder / "resumed", tuned_llama, resume=2), resumed, 1e-4)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_each_row_is_one_ranks(count: int, ranks: int) -> None:
    made = rows(count, 0)
    taken = shares(made, ranks)
    assert len(taken) == ranks
    assert sorted(row for own in taken for row in own) == list(range(count))
    if count == 17:
        tokens = [sum(len(made[row].prompt_ids) + len(made[row].reply_ids) for row in own) for own in taken]
        assert max(tokens) - min(tokens) <= 2 * 40


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = {case: train(case, folder / "runs", small_llama) for case in CASES}
    found |= {f"shared, {case}": train(case, folder / "runs", small_llama, True) for case in SHARED}
    train(RESUMED, folder / "resumed", small_llama, True, until=2)
    found["resumed"] = train(RESUMED, folder / "resumed", small_llama, True, resume=2)
    found |= {f"whole, {case}": train(case, folder / "runs", plain_llama, True) for case in WHOLE}
    train(RESUMED, folder / "whole", plain_llama, True, until=2)
    found["whole, resumed"] = train(RESUMED, folder / "whole", plain_llama, True, resume=2)
    (folder / f"{os.environ['RANK']}.pickle").write_bytes(pickle.dumps(found))
