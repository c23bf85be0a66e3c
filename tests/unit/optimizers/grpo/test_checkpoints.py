"""A checkpoint of a stage is whole or was never made, and only the last one is kept."""

from __future__ import annotations

from pathlib import Path

from lmprog.optimizers.grpo.checkpoints import Checkpoints, Progress, by_row
from lmprog.scoring.evaluation import Scores
from lmprog.spending.budget import Spent


def progress(step: int, best: int | None = None) -> Progress:
    scores = None if best is None else (best, [(0, 0.1), (2, 1 / 3)])
    return Progress(step, 2 * step, {"a": 0.1 + 0.2}, scores, Spent(step, 5, 3, 0.1, 2.5), Spent(1, 2, 3))


def written(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.of_trainer(step).mkdir(parents=True)
    (checkpoints.of_trainer(step) / "weights").write_text(str(step))


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.last() is None
    for made in (progress(1), progress(2, best=1)):
        written(checkpoints, made.step)
        checkpoints.commit(made)
        assert Checkpoints(tmp_path).last() == made


def test_a_checkpoint_that_was_cut_short_was_never_made(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    written(checkpoints, 1)
    checkpoints.commit(progress(1))
    written(checkpoints, 2)
    checkpoints.best(2).mkdir()
    assert Checkpoints(tmp_path).last() == progress(1)
    assert (checkpoints.of_trainer(1) / "weights").read_text() == "1"


def test_what_the_last_one_does_not_name_is_dropped(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        written(checkpoints, step)
        checkpoints.best(step).mkdir()
        checkpoints.commit(progress(step, best=min(step, 2)))
    assert [path.name for path in checkpoints.trainer.iterdir()] == ["checkpoint-3"]
    assert [path.name for path in tmp_path.glob("adapters-*")] == ["adapters-2"]


def test_scores_kept_by_row_give_the_same_statistics() -> None:
    scores = Scores.of_values("accuracy", [(0, 0.0), (3, 1.0), (4, 1 / 3)])
    again = Scores.of_values("accuracy", by_row(scores))
    assert again.by_row == scores.by_row == {0: 0.0, 3: 1.0, 4: 1 / 3}
    assert again.estimate == scores.estimate
