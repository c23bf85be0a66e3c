"""Forecasts of time, by the reports of earlier runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.plan import LM
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
