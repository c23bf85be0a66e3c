"""The option `repeats` that all built-in stages have."""

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
