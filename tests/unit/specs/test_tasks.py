"""The metrics of the three tasks on cases that can be counted by hand, and the judges on an LM that is told what to say."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest

import lmprog

SPECS = Path(__file__).parents[3] / "specs"


def metric(task: str, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{task}_metrics", SPECS / task / "metrics.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


@pytest.mark.parametrize(
    "wanted",
    [
        ["Oslo", "Dai Jitao", "Caf\u00e9"],
        {"title": ["Oslo", "Oslo", "Dai Jitao", "Caf\u00e9"], "sent_id": [0, 1, 0, 0]},
        [{"key": "Oslo", "value": 0}, {"key": "Oslo", "value": 2}, {"key": "Dai Jitao"}, {"key": "Cafe\u0301"}],
    ],
    ids=["titles", "HotpotQA", "HoVer"],
)
def test_recall_of_titles_in_every_form(wanted: Any) -> None:
    recall = metric("multihop", "title_recall")
    assert recall(["Oslo", "Rome", "Cafe\u0301"], wanted) == pytest.approx(2 / 3)
    assert recall([], wanted) == 0 and recall(["Caf\u00e9", "Oslo", "Dai Jitao"], wanted) == 1


def test_a_unit_leaks_as_whole_words_in_any_case() -> None:
    leaked = metric("papillon", "leaked_share")
    units = ["anna berg", "room 4", "kpmg"]
    assert leaked("Write to ANNA  BERG in room 42.", units) == pytest.approx(1 / 3)
    assert leaked("Anna, Berg: KPMG, room 4", "anna berg||room 4||kpmg") == 1
    assert leaked("How do I write a letter?", units) == 0
    assert leaked("", []) == 0 and leaked("anything", "") == 0


def test_overlap_is_the_f1_of_words() -> None:
    overlap = metric("papillon", "overlap")
    assert overlap("the cat sat", "The cat sat!") == 1
    assert overlap("the the the", "the cat") == pytest.approx(2 * 1 / 5)
    assert overlap("", "the cat") == 0 and overlap("", "") == 0


def test_an_answer_is_usable_by_the_words_of_the_reference_that_are_not_private() -> None:
    usable = metric("papillon", "usable")
    reference = "Dear Anna Berg, please renew the passport before travelling abroad with your children."
    units = ["Anna Berg"]
    assert usable("", reference, units) == 0
    assert usable("Hello! How can I help you today? Anna Berg", reference, units) == 0
    assert usable("Renew a passport before a journey", reference, units) == pytest.approx(3 / 5)
    assert usable("Please renew the passport before travelling with children", reference, units) == 1
    assert usable("Sure.", "Yes: passport", "") == 0 and usable("a passport", "Yes: passport", "") == 1
    assert usable("anything", "No.", []) == 1


@pytest.mark.parametrize(
    ("forth", "back", "score"), [("yes", "no", 1), ("yes", "yes", 1), ("no", "no", 1), ("no", "yes", 0)]
)
def test_a_response_loses_only_where_both_orders_say_so(scripted, forth: str, back: str, score: int) -> None:
    def answer(request: Any) -> str:
        said = str(request.messages[-1]["content"])
        return forth if said.index("mine") < said.index("theirs") else back

    judge = lmprog.load(SPECS / "judges" / "at_least_as_good.yaml", lms={"judge": scripted(answer)})
    result = asyncio.run(judge.run({"query": "Which?", "response": "mine", "reference": "theirs"}))
    assert result.outputs == {"score": score}


@pytest.mark.parametrize(("said", "units", "score"), [("1", 2, 0.5), ("0", 2, 0), ("7", 2, 1), ("0", 0, 0)])
def test_the_share_of_leaked_units_stays_within_its_range(scripted, said: str, units: int, score: float) -> None:
    judge = lmprog.load(SPECS / "judges" / "leaked_share.yaml", lms={"judge": scripted(lambda request: said)})
    result = asyncio.run(judge.run({"request": "Help me.", "units": [f"unit {n}" for n in range(units)]}))
    assert result.outputs == {"score": score}
