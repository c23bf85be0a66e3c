"""benchmarks/ledger.py: several processes add to it, one that was killed in the middle too."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from ledger import Ledger

from lmprog import UsageError


@dataclass(frozen=True)
class Run:
    task: str
    seed: int
    settings: dict[str, Any]

    @property
    def key(self) -> tuple[str, int, dict[str, Any]]:
        return self.task, self.seed, self.settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "ledger.jsonl"


def opened(path: Path) -> Ledger[Run]:
    return Ledger(path, lambda values: Run(**values))


def test_it_keeps_what_was_added_and_finds_it_by_its_settings(path: Path) -> None:
    ledger, other = opened(path), opened(path)
    ledger.add(Run("banking77", 0, {"rows": 1}))
    other.add(Run("banking77", 1, {"rows": 1}))
    assert ledger.read() == [Run("banking77", seed, {"rows": 1}) for seed in (0, 1)]
    assert ledger.find("banking77", 1, {"rows": 1}) == Run("banking77", 1, {"rows": 1})
    assert ledger.find("banking77", 1, {"rows": 2}) is None
    assert ledger.find("multihop", 1, {"rows": 1}) is None
    assert list(path.parent.iterdir()) == [path]


def test_a_line_that_was_cut_is_dropped(path: Path) -> None:
    opened(path).add(Run("banking77", 0, {}))
    with path.open("a") as file:
        file.write('{"task": "bank')
    ledger = opened(path)
    ledger.add(Run("banking77", 1, {}))
    assert [run.seed for run in ledger.read()] == [0, 1]


@pytest.mark.parametrize("text", ['{"task": "banking77"}\n', "not json\n", "one line, and it has no end"])
def test_a_file_that_is_no_ledger_is_left_alone(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a ledger"):
        opened(path)
    assert path.read_text() == text
