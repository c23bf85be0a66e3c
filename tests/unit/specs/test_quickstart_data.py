"""The hand-written rows of the quickstart example keep their counts, labels and distance from one another."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[3] / "specs" / "quickstart"
AT_LEAST = {"train": 160, "dev": 60, "test": 80}
Row = dict[str, str]


def read_rows(split: str) -> list[Row]:
    lines = (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_labels() -> list[str]:
    return (DATA / "labels.txt").read_text(encoding="utf-8").splitlines()


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def trigrams(text: str) -> frozenset[tuple[str, ...]]:
    found = words(text)
    return frozenset(zip(found, found[1:], found[2:], strict=False))


@pytest.mark.parametrize("split", AT_LEAST)
def test_every_split_is_large_enough_and_balanced(split: str) -> None:
    rows = read_rows(split)
    counts = Counter(row["label"] for row in rows)
    assert all(set(row) == {"text", "label"} for row in rows)
    assert len(rows) >= AT_LEAST[split]
    assert set(counts) == set(read_labels())
    assert len(set(counts.values())) == 1


def test_there_are_eight_distinct_labels() -> None:
    assert len(read_labels()) == len(set(read_labels())) == 8


def test_no_text_occurs_twice() -> None:
    texts = Counter(" ".join(words(row["text"])) for split in AT_LEAST for row in read_rows(split))
    assert [text for text, count in texts.items() if count > 1] == []


def test_no_two_rows_are_near_duplicates() -> None:
    rows = [(split, row["text"], trigrams(row["text"])) for split in AT_LEAST for row in read_rows(split)]
    for (split, text, grams), (other_split, other, other_grams) in itertools.combinations(rows, 2):
        bound = 0.35 if split == other_split else 0.25
        assert len(grams & other_grams) < bound * len(grams | other_grams), (text, other)
