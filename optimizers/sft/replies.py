"""The replies that a stage learns: of the best runs on train rows, of teachers, and of labelled rows. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from lmprog.optimizers.grpo.sampling.rollouts import Rollout
from lmprog.optimizers.strategies.best_runs import AtLeast, best_runs
from lmprog.traces.record import Invocation


@dataclass(frozen=True)
class TrainingReply:
    """A reply to learn for a module, as the token ids of its prompt and of itself; `constrained` is True where it was
    sampled under a grammar.
    """

    module: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    constrained: bool = False
    """True if only a reply of the declared types could be sampled."""

    def as_json(self) -> list[Any]:
        """Return the reply as a list of plain values, from which `from_json` makes it again."""
        return [self.module, list(self.prompt_token_ids), list(self.token_ids), self.constrained]

    @staticmethod
    def from_json(values: Sequence[Any]) -> TrainingReply:
        """Return the reply from a list that `as_json` returned."""
        module, prompt, reply, constrained = values
        return TrainingReply(module, tuple(prompt), tuple(reply), constrained)

    @staticmethod
    def of(made: Invocation) -> TrainingReply | None:
        """Return the reply to learn from an LM call; None where it has no token ids. `made` is the record of the
        call."""
        if not made.token_ids:
            return None
        return TrainingReply(made.module, tuple(made.prompt_token_ids or ()), tuple(made.token_ids), made.constrained)


class Reply(Protocol):
    """The interface of a reply to learn, which is hashable, so that equal ones count once: its module, and its plain
    values for the journal."""

    @property
    def module(self) -> str: ...

    def as_json(self) -> list[Any]: ...


R = TypeVar("R", bound=Reply)


@dataclass(frozen=True)
class Best(Generic[R]):
    """The replies to learn from the runs on some rows, those of all rows and modules in one list (`replies`); `rows` is
    the number of rows that had a run, failed ones too, `taught` that of the rows among them that gave a reply.
    """

    replies: Sequence[R]
    rows: int
    """Rows that had a run at all."""
    taught: int
    """Rows that had one which is learnt from."""

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values by field name, from which `from_json` makes the object again."""
        return {"replies": [reply.as_json() for reply in self.replies], "rows": self.rows, "taught": self.taught}

    @staticmethod
    def from_json(values: Mapping[str, Any], read: Callable[[Sequence[Any]], R]) -> Best[R]:
        """Return the object from a dictionary that `as_json` returned; `read` makes a reply from its plain values."""
        return Best([read(reply) for reply in values["replies"]], values["rows"], values["taught"])


def best_of(
    runs: Iterable[Rollout],
    modules: frozenset[str],
    at_least: AtLeast,
    keep: int,
    lowest: float,
    learnt: Callable[[Invocation], R | None],
) -> Best[R]:
    """Return the replies to learn from scored runs: those of each row's best `keep` runs that differ in the replies of
    `modules`.

    `at_least` is the score that a run needs (`best`: the row's highest, above `lowest`, the metric's lowest value).
    `learnt` returns the reply to learn from an LM call, or None. Calls of sub-programs give no reply, of the tries of one
    call only the last gives one, and a run that failed by itself none, whatever its score.
    """
    by_row: dict[int, list[Rollout]] = {}
    for run in runs:
        by_row.setdefault(run.example, []).append(run)
    replies: list[R] = []
    taught = 0
    for of_row in by_row.values():
        readable = [run for run in of_row if run.failure is None]
        best = [readable[place] for place in best_runs([run.reward for run in readable], at_least, lowest)]
        # By what they teach: runs that are equal in it are one.
        differing = dict.fromkeys(found for run in best if (found := _learnt(run, modules, learnt)))
        taught += bool(differing)
        replies += [reply for found in list(differing)[:keep] for reply in found]
    return Best(replies, len(by_row), taught)


def _learnt(run: Rollout, modules: frozenset[str], learnt: Callable[[Invocation], R | None]) -> tuple[R, ...]:
    """Return the replies to learn of the calls of `modules`, of retries the last.

    A sub-program's module of the same name is another module.
    """
    last = {(made.module, made.call): made for made in run.invocations if made.module in modules and not made.parent}
    return tuple(reply for made in last.values() if (reply := learnt(made)) is not None)
