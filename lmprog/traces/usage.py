"""Usage of runs: calls, tokens, money, time, retries, and repairs of replies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmprog.traces.record import Invocation, Record


@dataclass(frozen=True)
class Usage:
    """Sums over the LM and tool calls of some runs.

    `retried` counts LM calls of a second or later try; `usd` are the dollars of calls whose price is known (None: no price is),
    and `unpriced` counts the other replies. `seconds` has the time of a run, `p50` and `p95` (empty without runs); `forgiven`
    counts repairs of replies, `answered_by` and `passed_over` LM calls by the LM that answered or gave no reply, where several
    may answer.
    """

    lm_calls: int = 0
    tool_calls: int = 0
    retried: int = 0
    """LM calls of a second or later try of their module or step."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    """US dollars of the calls whose price is known; None where no price is."""
    unpriced: int = 0
    """LM calls with a reply whose price is not known."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """`p50` and `p95` of the time from a run's first call to the end of its last."""
    forgiven: Mapping[str, int] = field(default_factory=dict)
    """Repairs of replies and their counts, the most frequent first."""
    answered_by: Mapping[str, int] = field(default_factory=dict)
    """LM calls by the id of the LM that answered, where several may."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """LM calls by the id of an LM that gave no reply, so that another one answered."""

    def as_json(self) -> dict[str, Any]:
        """Return the sums as a dictionary by field name: `lm_calls`, `tool_calls`, `retried`, `prompt_tokens`,
        `completion_tokens`, `usd`, `unpriced`, `seconds`, `forgiven`; `answered_by` and `passed_over` only where
        several LMs may answer."""
        routes = {"answered_by": dict(self.answered_by), "passed_over": dict(self.passed_over)}
        return {
            "lm_calls": self.lm_calls,
            "tool_calls": self.tool_calls,
            "retried": self.retried,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "usd": self.usd,
            "unpriced": self.unpriced,
            "seconds": dict(self.seconds),
            "forgiven": dict(self.forgiven),
            **(routes if self.answered_by else {}),
        }

    def __str__(self) -> str:
        said = [f"{self.lm_calls:,} LM calls" + (f" ({self.retried} of them retries)" if self.retried else "")]
        if self.tool_calls:
            said.append(f"{self.tool_calls:,} tool calls")
        said.append(f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens")
        if self.usd:
            said.append(
                f"${self.usd:.4g}" + (f" without {self.unpriced} calls of unknown price" if self.unpriced else "")
            )
        if self.answered_by:
            said.append("answered by " + ", ".join(f"{id} ({count:,})" for id, count in self.answered_by.items()))
        if self.passed_over:
            said.append("without a reply " + ", ".join(f"{id} ({count:,})" for id, count in self.passed_over.items()))
        if self.seconds:
            said.append(f"{self.seconds['p50']:.2f} s a run (95% within {self.seconds['p95']:.2f} s)")
        return ", ".join(said)


def usage_of(runs: Iterable[Sequence[Record]]) -> Usage:
    """Return the calls, tokens, cost, retries and repairs of `runs`, added up; each run is a list of its records, and
    one without a call does not count. Replies from lmprog's cache count as others do.
    """
    runs = [run for run in runs if run]
    asked = [call for run in runs for call in run if isinstance(call, Invocation)]
    used = [call.usage for call in asked if call.usage is not None]
    prices = [usage.usd for usage in used if usage.usd is not None]
    seconds = sorted(
        max(call.started + call.seconds for call in run) - min(call.started for call in run) for run in runs
    )
    forgiven = Counter(note for call in asked for note in call.forgiven)
    return Usage(
        lm_calls=len(asked),
        tool_calls=sum(len(run) for run in runs) - len(asked),
        retried=sum(call.attempt > 0 for call in asked),
        prompt_tokens=sum(usage.prompt_tokens for usage in used),
        completion_tokens=sum(usage.completion_tokens for usage in used),
        usd=math.fsum(prices) if prices else None,
        unpriced=sum(call.text is not None for call in asked) - len(prices),
        seconds={"p50": _quantile(seconds, 0.5), "p95": _quantile(seconds, 0.95)} if seconds else {},
        forgiven=dict(forgiven.most_common()),
        answered_by=dict(sorted(Counter(call.lm for call in asked if call.lm is not None).items())),
        passed_over=dict(sorted(Counter(id for call in asked for id in call.passed_over).items())),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile of sorted values (at least one) at `share` (0 to 1) by nearest rank: the smallest value that at
    least this share of the values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
