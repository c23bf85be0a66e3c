"""The words of other tools: each means something that is there."""

from __future__ import annotations

import re

import pytest

from lmprog.compiler.expressions.functions import FUNCTIONS
from lmprog.compiler.findings.other_words import BOUNDS, KEYS, meant_number
from lmprog.compiler.findings.other_words import FUNCTIONS as OTHER_FUNCTIONS
from lmprog.compiler.schema.keys import keys
from lmprog.compiler.types.shapes import LONG_FORM

SECONDS, MINUTES, COUNT = "Seconds of one try.", "Most minutes.", "Most turns of an agent."


def test_each_key_that_is_meant_exists() -> None:
    known = {re.split(r"[.\[]", key.name)[-1] for key in keys()} | {"k"}
    assert {name for names in KEYS.values() for name in names} <= known


def test_no_bound_is_a_key_of_the_long_form_and_no_other_function_is_one_here() -> None:
    assert not BOUNDS & LONG_FORM.keys.keys()
    assert not OTHER_FUNCTIONS.keys() & FUNCTIONS.keys()


def test_each_function_that_is_named_exists() -> None:
    named = {name for fix in OTHER_FUNCTIONS.values() for name in re.findall(r"\b([a-z_]+)\(", fix)}
    assert named and named <= FUNCTIONS.keys()


@pytest.mark.parametrize(
    ("text", "about", "whole", "meant"),
    [
        ("120s", SECONDS, False, "120"),
        ("2m", SECONDS, False, "120"),
        ("1.5 min", SECONDS, False, "90"),
        ("500ms", SECONDS, False, "0.5"),
        ("1h", MINUTES, False, "60"),
        ("30", COUNT, True, "30"),
        ("8k", COUNT, True, "8000"),
        ("1M", COUNT, True, "1000000"),
        ("20_000", COUNT, True, "20000"),
        ("$25", "Most US dollars.", False, "25"),
        ("80%", COUNT, False, "0.8"),
        ("1.5", COUNT, True, None),
        ("0,7", COUNT, False, "0.7"),
        ("1,000", COUNT, True, "1000"),
        ("9" * 320 + "s", SECONDS, False, None),
        ("ten", COUNT, True, None),
        ("", COUNT, True, None),
        ("1 2", COUNT, True, None),
    ],
)
def test_a_number_with_a_unit(text: str, about: str, whole: bool, meant: str | None) -> None:
    assert meant_number(text, about, whole) == meant
