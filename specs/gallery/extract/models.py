"""The order of a bakery's customer as pydantic models: descriptions and bounds go into the prompt, and judge the reply."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from pydantic import BaseModel, Field, model_validator


class Product(StrEnum):
    """What the bakery makes to order."""

    RYE = "rye bread"
    WHEAT = "wheat bread"
    ROLL = "roll"
    PRETZEL = "pretzel"
    CAKE = "cake"


class Item(BaseModel):
    """One line of the order."""

    product: Product
    pieces: int = Field(ge=1, le=500)


class Order(BaseModel):
    """An order, as the bakery needs it."""

    items: list[Item] = Field(min_length=1)
    pickup: date = Field(description="The day on which it is fetched.")
    hour: int | None = Field(default=None, ge=6, le=18, description="The hour, if one is named.")
    name: str = Field(description="Whose order it is.")

    @model_validator(mode="after")
    def each_product_once(self) -> Order:
        """Refuse an order that names a product twice: the pieces belong together."""
        if len({item.product for item in self.items}) < len(self.items):
            raise ValueError("a product stands in it twice; add the pieces")
        return self
