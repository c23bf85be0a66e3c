"""The options of the `ensemble` stage, as they stand in a spec."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """The options of the `ensemble` stage: the most programs in it (`members`, 3 or more), and what picks the answer,
    the LM `judge` or, where that is None, a vote on the output `vote` (None: the program's only output). An unknown
    option is refused."""

    model_config = ConfigDict(extra="forbid")

    members: int = Field(
        5, ge=3, description="programs of the ensemble, at most; those of the best 3, of the best 5 and so on are tried"
    )
    vote: str | None = Field(
        None,
        examples=["label"],
        description="the output whose most common value wins; left out: the program's only output",
    )
    judge: str | None = Field(
        None, examples=["student"], description="the LM that picks the best answer, in place of a vote"
    )
