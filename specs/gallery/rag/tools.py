"""The passages of the handbook by their ids: the search gives ids, and the prompt needs the texts."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TypedDict


class Passage(TypedDict):
    """One passage of the handbook."""

    id: str
    title: str
    text: str


@cache
def _handbook() -> dict[str, Passage]:
    lines = Path(__file__).with_name("handbook.jsonl").read_text(encoding="utf-8").splitlines()
    return {passage["id"]: passage for passage in map(json.loads, lines)}


def passages(ids: list[str]) -> list[Passage]:
    """Return the passages with these ids, in their order."""
    return [_handbook()[id] for id in ids]
