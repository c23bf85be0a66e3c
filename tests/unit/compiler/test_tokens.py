"""One rule says how long a reply may be, and everything that counts, limits or divides by replies goes by it."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lmprog
from lmprog.compiler.bounds import bounds
from lmprog.compiler.plan import LM
from lmprog.compiler.tokens import USUAL_REPLY, reply_limit, reply_limit_of, reply_tokens
from lmprog.errors import LmprogError
from lmprog.optimizers.grpo.math.overlong import divisor, longest
from lmprog.spending.worst_case import longest_reply

ROOT = Path(__file__).parents[3]
HERE, SERVED, UNKNOWN = "embedded/smollm2-135m", "hosted_vllm/x", "strange/x"


@pytest.mark.parametrize(
    ("model", "params", "limit"),
    [
        (HERE, {}, USUAL_REPLY),
        (HERE, {"max_tokens": 9}, 9),
        (SERVED, {}, None),
        (SERVED, {"max_tokens": 9}, 9),
        (SERVED, {"max_completion_tokens": 9}, 9),
        (UNKNOWN, {"max_tokens": 9, "max_completion_tokens": 12}, 9),
        (UNKNOWN, {"temperature": 1.0}, None),
    ],
)
def test_all_that_read_the_limit_of_a_reply_agree(model: str, params: dict[str, Any], limit: int | None) -> None:
    lm = LM("lm", model, params)
    assert reply_limit_of(lm) == longest_reply(lm) == limit
    assert reply_limit(params) == (limit if params and limit else None)
    assert reply_tokens(params) == (limit or USUAL_REPLY)
    plan: Any = SimpleNamespace(lms={"lm": lm}, modules={"m": SimpleNamespace(lm="lm")})
    assert longest(plan, "m") == limit
    if limit is None:
        with pytest.raises(LmprogError, match=r"set lms\.lm\.params\.max_tokens"):
            divisor(plan, "lm", "dr_grpo")
    else:
        assert divisor(plan, "lm", "dr_grpo") == limit
    assert divisor(plan, "lm", "dapo") == (limit or USUAL_REPLY)


def test_the_bounds_count_the_same_reply() -> None:
    plan = lmprog.load(ROOT / "specs/quickstart.yaml").plan
    for params in ({}, {"max_tokens": 9}):
        found = bounds(replace(plan, lms={id: replace(lm, params=params) for id, lm in plan.lms.items()}))
        assert found.completion_tokens == found.total_calls * reply_tokens(params)


def test_nothing_else_reads_the_limit_from_params() -> None:
    reads = [
        str(file.relative_to(ROOT))
        for folder in ("compiler", "lmprog", "optimizers")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if '"max_tokens"' in file.read_text()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
        and node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == "max_tokens"
    ]  # fmt: skip
    assert reads == ["compiler/tokens.py"]
