"""The fix for a text with expressions in it: the expression that it names is the text that was meant."""

from __future__ import annotations

import json
import re

import pytest

import lmprog
from lmprog.compiler.types.values import ANY_JOINED


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("say ${{ inputs.text }}", "say a"),
        ("${{ inputs.text }}, ${{lower(inputs.text)}}!", "a, a!"),
        ("${{ inputs.text }}${{ inputs.text }}", "aa"),
        (' "x" \\ ü\n${{ inputs.text }} ', ' "x" \\ ü\na '),
        ("${{ inputs.text }} ${{ torn", None),
        ("x" * 80 + "${{ inputs.text }}", None),
    ],
)
def test_the_fix_joins_what_was_mixed(write, text: str, meant: str | None) -> None:
    def program(value: str) -> lmprog.Program:
        outputs = json.dumps({"out": value, "one": "${{ steps.one.value }}"}, ensure_ascii=False)
        steps = "{one: {value: inputs.text}}"
        return lmprog.load(write(f"lmprog: 1\ninputs: {{text: str}}\noutputs: {outputs}\nsteps: {steps}\n"))

    with pytest.raises(lmprog.SpecError) as refused:
        program(text)
    fix = re.search(r"write one expression: (.*)$", str(refused.value), re.MULTILINE)
    assert fix is not None
    if meant is None:
        assert fix[1] == ANY_JOINED
    else:
        assert program(fix[1])(text="a").outputs["out"] == meant
