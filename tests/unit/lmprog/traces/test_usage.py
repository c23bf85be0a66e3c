"""What runs took, and scores by column."""

from __future__ import annotations

from typing import Any

from lmprog.lms.lm import Usage as Tokens
from lmprog.traces.record import Invocation, ToolInvocation
from lmprog.traces.usage import usage_of


def call(started: float, seconds: float, **more: Any) -> Invocation:
    fixed: dict[str, Any] = {"program": "p", "module": "m", "path": "m", "call": 0, "example": 0, "rollout": 0}
    fixed |= {"inputs": {}, "messages": [], "text": "x", "outputs": {}, "started": started, "seconds": seconds}
    return Invocation(**fixed | more)


def test_sums_and_times() -> None:
    tool = ToolInvocation(
        program="p", tool="t", path="t", example=0, rollout=0, arguments={}, started=12.0, seconds=3.0
    )
    slow = [call(10.0, 1.0, usage=Tokens(10, 2, 0.25), forgiven=("a", "b")), tool]
    quick = [call(10.0, 0.5, usage=Tokens(5, 1)), call(10.5, 0.5, attempt=1, usage=Tokens(7, 1, 0.5), forgiven=("a",))]
    found = usage_of([slow, quick, []])
    assert (found.lm_calls, found.tool_calls, found.retried, found.unpriced) == (3, 1, 1, 1)
    assert (found.prompt_tokens, found.completion_tokens, found.usd) == (22, 4, 0.75)
    assert found.seconds == {"p50": 1.0, "p95": 5.0}
    assert found.forgiven == {"a": 2, "b": 1}
    assert str(found) == (
        "3 LM calls (1 of them retries), 1 tool calls, 22 + 4 tokens, $0.75 without 1 calls of unknown price, "
        "1.00 s a run (95% within 5.00 s)"
    )


def test_nothing_ran() -> None:
    found = usage_of([[], []])
    assert (found.lm_calls, found.usd, found.seconds) == (0, None, {})
    assert str(found) == "0 LM calls, 0 + 0 tokens"
