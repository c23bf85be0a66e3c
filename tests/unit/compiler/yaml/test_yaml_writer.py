"""Any text and any plain value is read back as it was written, or there is a reason why no file can hold it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lmprog
from lmprog.compiler.findings.finding import Report, SpecError
from lmprog.compiler.overlay import write_overlay
from lmprog.compiler.yaml.reader import parse
from lmprog.compiler.yaml.source import Source
from lmprog.compiler.yaml.writer import dump, unwritable
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.strategies.demo_sources import writable

ODD = "\r\n\t \x00\x07\x1b\x7f\x85\xa0\u2028\u2029\ufeff\ufffe\uffff\U0001ffff\ud83d-#:{}[]|>'\"%@`,&*!?=~\\$.0e1yn"
PIECES = [
    "yes", "null", "~", "1_000", "0o17", "1:30", ".inf", "1e5", "=", "<<", "...", "---", "2024-01-01", "x: y # z", "- a",
    "${{ env.HOME }}", "{{ x }}", "{% if", "\r\n", " a\nb", "\n  x", "a \n b", "x\n\n", "\t\n", "word " * 60,
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(ODD) | st.sampled_from(PIECES) | st.characters(), max_size=8).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
SPEC = """\
lmprog: 1
name: ask
inputs: {text: str}
outputs: {label: "${{ steps.ask.label }}"}
lms: {m: {model: openai/m}}
modules: {ask: {lm: m, inputs: {text: str}, outputs: {label: str}, instructions: Say what it is about.}}
steps: {ask: {module: ask, with: {text: "${{ inputs.text }}"}}}
"""


def read(text: str) -> Any:
    """Return what the reader makes of a text, once it has been a file."""
    text = text.encode().decode().replace("\r\n", "\n").replace("\r", "\n")
    report = Report()
    node = parse(Source(Path("a"), "a", text, Path()), report)
    assert node is not None and not report.findings, (text, report.findings)
    return node.plain()


@given(VALUES)
@example("\t0\n")
@example({"0\x850": None, "a\nb": " \n x"})
@example("a  \n\n   \n  b ")
def test_a_value_is_read_back_as_it_was_written(value: Any) -> None:
    if unwritable(value) is None:
        assert repr(read(dump({"around": {"it": value}}))) == repr({"around": {"it": value}})
    else:
        assert re.search(r"\\ud[89a-f]", ascii(value))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("a folder: with # odd 'words'") / "spec.yaml"
    path.write_text(SPEC)
    return path


@settings(max_examples=40, deadline=None)
@given(TEXTS)
@example("half \ud83d")
@example("yes")
def test_words_and_demos_come_back_from_an_overlay_or_are_refused_at_first(spec: Path, text: str) -> None:
    candidate = Candidate(instructions={"ask": text}, demos={"ask": [{"text": text, "label": "a"}]})
    program, other = lmprog.load(spec), spec.parent / "tuned" / "spec.tuned.yaml"
    if unwritable(text) is not None:
        for refused in (candidate, Candidate(demos=candidate.demos)):
            with pytest.raises(SpecError, match=r"of module `ask` holds half of a surrogate pair, U\+D"):
                program.with_candidate(refused)
        with pytest.raises(ValueError, match=r"no overlay is written to .* half of a surrogate pair"):
            write_overlay(other, spec, candidate.as_overlay(), {})
        assert writable(candidate.demos["ask"]) == []
        return
    write_overlay(other, spec, candidate.as_overlay(), {})
    for plan in (lmprog.load(other).plan, program.with_candidate(candidate).plan):
        module = plan.modules["ask"]
        assert (module.instructions, [dict(demo) for demo in module.demos]) == (text, candidate.demos["ask"])


def test_what_is_too_deep_to_be_read_is_not_written() -> None:
    value: Any = "a"
    for _ in range(89):
        value = [value]
    assert unwritable(value) is None
    assert read(dump({"modules": {"m": {"demos": [{"x": value}]}}})) is not None
    assert "nested more than 90 deep" in str(unwritable([[value]]))
