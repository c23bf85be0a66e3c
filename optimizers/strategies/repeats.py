"""The options `repeats`, which all built-in stages have, and `at_once`, which those have that try many candidates."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Repeats = Annotated[
    int,
    Field(
        ge=1,
        description="times that each dev row is run where it is decided what the stage comes to; more where replies are "
        "sampled, so that chance decides less",
    ),
]
AtOnce = Annotated[
    int,
    Field(
        ge=1,
        description="candidates that are drawn before the first of them is scored, and scored at the same time; more where "
        "many workers make the runs. The result follows from it, and not from the number of workers",
    ),
]
