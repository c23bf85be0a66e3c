"""Forecasts of time, by the reports of earlier runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.plan import LM
from lmprog.reports.forecast import _cells, _dollars
from lmprog.spending.estimate import Part, timed
from lmprog.spending.worst_case import CallBound

SPEC = 'lmprog: 1\ninputs: {t: str}\noutputs: {o: "${{ inputs.t }}"}\n'
GOOD = json.dumps({"spent": {"lm_calls": 10, "seconds": 5.0, "completion_tokens": 30}, "stages": []})


@pytest.mark.parametrize(
    "newest", ["", "{", "[]", "3", "{}", '{"spent": 3, "stages": []}', '{"spent": {}, "stages": [3]}']
)
def test_a_report_of_another_form_measures_nothing(write, tmp_path: Path, newest: str) -> None:
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder, text in zip(folders, (GOOD, newest), strict=True):
        folder.mkdir()
        (folder / "report.json").write_text(text)
    part = Part("stage", [CallBound(LM("lm", "openai/x"), 4, 1, 1)])
    forecast = timed(compile_file(write(SPEC)).plan, 1, [part], folders)
    assert (forecast.measured, forecast.reply, forecast.in_all.seconds) == (folders[0], 3.0, 2.0)


@pytest.mark.parametrize(
    ("calls", "window", "seconds"), [(0, 32, 0.0), (1, 32, 2.0), (8, 32, 2.0), (64, 32, 4.0), (8, 1, 16.0)]
)
def test_calls_take_no_less_than_one_call_however_many_are_at_work(
    write, calls: int, window: int, seconds: float
) -> None:
    part = Part("stage", [CallBound(LM("lm", "openai/x"), calls, 1, 1)])
    assert timed(compile_file(write(SPEC)).plan, window, [part]).in_all.seconds == seconds


@pytest.mark.parametrize(
    ("part", "cells"),
    [
        (Part("a", [CallBound(LM("lm", "openai/x"), 8, 0, 0)], 0.3), ("unknown", "1 s")),
        (Part("a", [], 0.0), ("0.00", "0 s")),
        (Part("a", [], 95.0), ("0.00", "2 min")),
    ],
)
def test_a_time_is_not_shown_as_less_than_it_is(part: Part, cells: tuple[str, str]) -> None:
    assert _cells(part)[-2:] == cells


def test_a_cost_below_a_cent_is_not_shown_as_none() -> None:
    assert [_dollars(usd) for usd in (0.0, 0.0004, 0.01, 1234.5)] == ["0.00", "< 0.01", "0.01", "1,234.50"]
