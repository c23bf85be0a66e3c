"""The one split of the dev rows of a run: some choose between candidates, in every stage; the others only confirm the choice.

A test on the rows that a choice was made on finds gains that are not there (G. Cawley and N. Talbot, "On over-fitting in model
selection and subsequent selection bias in performance evaluation", JMLR 11, 2010): the parts share no row, and no stage runs
those that confirm. They are halves; docs/optimizers.md has what other shares come to.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from lmprog.compiler.bounds import FEWEST_CHOOSING, FEWEST_CONFIRMING, dev_split
from lmprog.compiler.plan import Optimize
from lmprog.optimizers.optimizer import Row
from lmprog.seeds import derive

ENOUGH = FEWEST_CHOOSING + FEWEST_CONFIRMING
"""The fewest dev rows of which some can confirm."""


@dataclass(frozen=True)
class DevSplit:
    """The dev rows divided in two: `choose` for choosing between candidates, `confirm` for testing the choice
    (perhaps empty).
    """

    choose: Sequence[Row]
    confirm: Sequence[Row]


def split(rows: Sequence[Row], block: Optimize, seed: int) -> DevSplit:
    """Divide the dev rows, shuffled by the seed, into those that choose and those that confirm; the division is the same in
    every stage and in a resumed run.

    Half of them, at least FEWEST_CONFIRMING (20), confirm; none does where fewer than FEWEST_CHOOSING (10) would be
    left to choose, or where `block` says `accept: point`.
    """
    shuffled = list(rows)
    random.Random(derive(seed, "dev")).shuffle(shuffled)
    choosing, _ = dev_split(len(shuffled), block.accept)
    return DevSplit(shuffled[:choosing], shuffled[choosing:])


def described(split: DevSplit, block: Optimize) -> str:
    """Return a sentence on the sizes of the two parts, and on what follows where no row confirms."""
    choose, confirm = len(split.choose), len(split.confirm)
    if confirm:
        return f"{block.validate}: {choose} rows choose between candidates, {confirm} others confirm what was chosen"
    if block.accept == "point":
        return f"{block.validate}: all {choose} rows choose; `accept: point` keeps the best estimate untested"
    return (
        f"{block.validate}: all {choose} rows choose and none is left to confirm a gain, so the program stays as it is; "
        f"give at least {ENOUGH} rows, or write `accept: point` to keep the best estimate untested"
    )
