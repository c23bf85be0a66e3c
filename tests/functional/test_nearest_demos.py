"""A program whose calls are shown their nearest demos runs from its overlay alone."""

from __future__ import annotations

import json
from pathlib import Path

from lmprog.compiler.overlay import write_overlay
from lmprog.optimizers.candidate import Candidate

SPEC = """\
lmprog: 1
name: desk
inputs: {text: str}
lms: {student: {model: openai/gpt-4.1}}
modules:
  classify: {inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}, instructions: Say which.}
data: {dev: dev.jsonl}
"""
POOL = [
    {"text": "You charged my card twice", "label": "billing"},
    {"text": "I want my money back", "label": "refund"},
    {"text": "Where is the invoice of May", "label": "billing"},
]


def test_it_is_checked_rendered_and_run(cli, write, tmp_path: Path) -> None:
    base = write(SPEC)
    write('{"text": "my card was charged"}\n{"text": "give me back the money"}\n', "dev.jsonl")
    overlay = tmp_path / "tuned.yaml"
    change = Candidate(demos={"classify": POOL}, nearest={"classify": 1})
    write_overlay(overlay, base, change.as_overlay(), {})
    assert cli("check", overlay)[0] == 0
    shown = []
    for row in (0, 1):
        status, out, err = cli("render", overlay, "--row", row, "--split", "dev", "--format", "json")
        assert status == 0, err
        shown.append(out)
    assert "charged my card" in shown[0] and "invoice" not in shown[0] and "want my money" not in shown[0]
    assert "want my money back" in shown[1] and "charged" not in shown[1]
    out = tmp_path / "out.jsonl"
    status, _, err = cli("run", overlay, "--inputs", tmp_path / "dev.jsonl", "--out", out, "--fake")
    assert status == 0, err
    assert {json.loads(line)["outputs"]["label"] for line in out.read_text().splitlines()} <= {"billing", "refund"}
