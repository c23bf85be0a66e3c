"""A program whose runs on an example are spread over several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.runtime.result import Result
from lmprog.seeds import derive


@dataclass(frozen=True)
class Spread(Program):
    """A program that spreads the runs on an example over several member programs: run r is made by member `(r + shift)
    % members`.

    The shift is drawn for each example, from `seed`, so that where the number of runs is no multiple of the members,
    all members get an additional run equally often. `plan` is that of the program which the members change.
    """

    members: Sequence[Program] = ()
    seed: int = 0

    @staticmethod
    def over(program: Program, members: Sequence[Program], seed: int) -> Spread:
        """Return a copy of `program` that spreads its runs over `members`, by shifts that follow from the seed."""
        return Spread(
            **{part.name: getattr(program, part.name) for part in fields(Program)}, members=members, seed=seed
        )

    def member(self, example: int | str, rollout: int) -> int:
        """Return the index in `members` of the program that makes run number `rollout` on `example`.

        The members take turns; the one that begins is drawn from the seed for each example.
        """
        return (rollout + derive(self.seed, "spread", example)) % len(self.members)

    async def run(
        self,
        inputs: Mapping[str, Any],
        *,
        example: int | str = 0,
        options: RunOptions | None = None,
        parent: str | None = None,
    ) -> Result:
        """Run the member whose turn it is for `example` and the rollout in `options` (None: 0), as `Program.run` does;
        `parent` (None: a run by itself) is passed on."""
        number = options.rollout if options is not None else 0
        chosen = self.members[self.member(example, number)]
        return await chosen.run(inputs, example=example, options=options, parent=parent)
