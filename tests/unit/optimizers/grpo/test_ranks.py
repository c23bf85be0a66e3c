"""Two processes that share the rows of a step make the update that one makes on all of them."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.math.training_rows import Row  # noqa: E402
from lmprog.optimizers.grpo.ranks import shares  # noqa: E402

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


def train(case: str, folder: Path, make) -> list[dict[str, torch.Tensor]]:
    """The gradients of each update and the weights at the end, as this process sees them."""
    from transformers import AutoTokenizer

    from lmprog.lms.embedded import model_folder
    from lmprog.optimizers.grpo.torch.trained import TrainedAdapters
    from lmprog.optimizers.grpo.torch.trainer import ProgramTrainer
    from tests.unit.optimizers.grpo.torch.test_trainer import Grab

    options, counts = CASES[case]
    steps = len(counts) * options.get("updates", 1)
    config = Config(steps=steps, rollouts=2, max_grad_norm=1e9, checkpoint_every=100).model_copy(update=options)
    model, grab = make(), Grab()
    ProgramTrainer(
        TrainedAdapters([(model, "default")]),
        AutoTokenizer.from_pretrained(model_folder()),
        config,
        lambda step: rows(counts[step // config.updates], step),
        folder,
        0,
        [grab],
    ).train()
    trained = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    return [*grab.steps, trained]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[dict[str, torch.Tensor]]]]:
    """What each of two processes saw of each case."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    told |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_update_of_one(case: str, together, tuned_llama, tmp_path: Path) -> None:
    alone = train(case, tmp_path, tuned_llama)
    for rank in together:
        assert len(rank[case]) == len(alone)
        for mine, one in zip(rank[case], alone, strict=True):
            assert mine.keys() == one.keys()
            for name, value in one.items():
                assert float((mine[name] - value).norm()) <= 1e-4 * float(value.norm()) + 1e-9, name


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
    from tests.unit.optimizers.conftest import small_llama

    folder = Path(sys.argv[1])
    found = {case: train(case, folder / "runs", small_llama) for case in CASES}
    (folder / f"{os.environ['RANK']}.pickle").write_bytes(pickle.dumps(found))
