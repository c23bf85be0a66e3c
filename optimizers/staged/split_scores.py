"""The scoring of whole splits around the stages: at once, or by the provider's batches with `optimize: {batch: true}`.

What a stage tries decides what it tries next, so that its own scorings do not wait. Those here decide nothing before the stage
has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lmprog.errors import ProviderError
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.runtime.runner import HERE
from lmprog.scoring.evaluation import Scores, evaluate

FOLDER = "batches"
"""The name of the folder, in the run's folder, for the batches that were submitted and whose replies are not used yet."""


class SplitScores:
    """The scoring of programs on all rows of a split; `waiting` returns a program whose LM calls wait for the provider's
    batches (None: they are made at once)."""

    def __init__(self, waiting: Callable[[Program], Program] | None = None) -> None:
        self._waiting = waiting

    def of(
        self,
        program: Program,
        rows: Sequence[Mapping[str, Any]],
        metric: str,
        *,
        repeats: int = 1,
        options: RunOptions | None = None,
    ) -> Scores:
        """Return the scores of a program on rows, each run `repeats` times, with `options` (None: the usual ones).
        Tools that write are called; the optimization has refused them before, or been allowed to. Raises UsageError for
        an unknown metric; where nothing could be scored, the `estimate` of the scores raises."""
        at_a_time = None
        if self._waiting is not None:
            # All calls of one repeat that can be made are in one batch, which this process waits for.
            program, at_a_time = self._waiting(program.with_runner(HERE)), max(1, len(rows))
        how: dict[str, Any] = {"repeats": repeats, "options": options, "concurrency": at_a_time}
        return evaluate(program, rows, metric, allow_writes=True, **how)


@contextmanager
def split_scores(batch: bool, folder: Path, tell: Callable[[str], None]) -> Iterator[SplitScores]:
    """Yield the scoring of splits for one run; with `batch` it waits for batches of the provider.

    What was submitted is recorded in the run's `folder`, so that a resumed run goes on with it, until the block has ended
    without an error. `tell` is called with a sentence on each change of a batch.
    """
    if not batch:
        yield SplitScores()
        return
    from lmprog.lms.api.batch_lm import BatchRun

    with ExitStack() as held:
        batches = BatchRun(folder / FOLDER, tell, held)
        try:
            yield SplitScores(lambda program: program.batched(batches.make))
        except ProviderError:
            batches.forget(whole=False)
            raise
        batches.forget(whole=True)
