from typing import Annotated

from pydantic import Field


def rate(stars: Annotated[int, Field(ge=1, le=5)]) -> str:
    """Keeps a rating."""
    return "*" * stars
