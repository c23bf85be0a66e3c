"""Summaries of traces: records grouped into runs, and their counts and costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmprog.traces.run_record import KIND

Record = Mapping[str, Any]
"""A line of a trace, as written by `as_json` of `Invocation`, `ToolInvocation` or `RunRecord`."""


@dataclass
class Summary:
    """Counts of calls, errors, tokens and costs over the records that were added.

    `errors` counts LM and tool calls with an error. `cached_tokens` are prompt tokens that a provider had cached, `from_cache`
    counts replies from lmprog's own cache, `unpriced` those without a known price, `unreadable` those from which no outputs
    could be read. `forgiven` counts repairs of replies by kind, `answered_by` and `passed_over` replies by the LM that gave
    them, or failed to. `seconds` are those of each answered LM call.
    """

    lm_calls: int = 0
    tool_calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    from_cache: int = 0
    """Replies that lmprog had kept from earlier calls."""
    usd: float = 0.0
    unpriced: int = 0
    """Replies whose price is not known."""
    unreadable: int = 0
    """Replies from which no outputs could be read."""
    forgiven: Counter[str] = field(default_factory=Counter)
    answered_by: Counter[str] = field(default_factory=Counter)
    """Replies by the LM that gave them, where several may."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """LM calls by an LM that gave no reply, so that another one answered."""
    seconds: list[float] = field(default_factory=list)
    """Seconds of each answered call of an LM."""

    def add(self, record: Record) -> None:
        """Count the record of a call; the record of a whole run is ignored. `record` must satisfy `is_record`."""
        if record["kind"] == KIND:
            return
        failed = record.get("error") is not None
        self.errors += failed
        if record["kind"] == "tool":
            self.tool_calls += 1
            return
        self.lm_calls += 1
        self.forgiven.update(record.get("forgiven", ()))
        self.answered_by.update([record["lm"]] if record.get("lm") else [])
        self.passed_over.update(list(record.get("passed_over", ())))
        if "finish_reason" not in record:
            return
        self.unreadable += failed
        self.seconds.append(record.get("seconds", 0.0))
        self.from_cache += record.get("cached", False)
        usage = record.get("usage") or {}
        self.prompt_tokens += usage.get("prompt_tokens", 0)
        self.completion_tokens += usage.get("completion_tokens", 0)
        self.cached_tokens += usage.get("cached_tokens", 0)
        if usage.get("usd") is None:
            self.unpriced += 1
        else:
            self.usd += usage["usd"]

    def latency(self, share: float) -> float | None:
        """Return the seconds within which the share `share` (0 to 1) of the LM calls was answered, by nearest rank; None
        without calls.
        """
        ordered = sorted(self.seconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None

    def as_json(self) -> dict[str, Any]:
        """Return the counts as a dictionary by field name, with `forgiven` by kind and the seconds within which half
        (`p50`) and 95% (`p95`) of the LM calls were answered (None without calls); `answered_by` and `passed_over` only
        where several LMs may answer."""
        counts = {name: value for name, value in vars(self).items() if name == "usd" or isinstance(value, int)}
        routes = {"answered_by": dict(self.answered_by), "passed_over": dict(self.passed_over)}
        return {
            **counts,
            "forgiven": dict(self.forgiven),
            **(routes if self.answered_by else {}),
            "p50": self.latency(0.5),
            "p95": self.latency(0.95),
        }


def is_record(line: Record) -> bool:
    """Return whether a JSON object, read from a line of a trace file, is the record of an LM call, a tool call or a whole
    run with the fields by which runs are told apart."""
    return line.get("kind") in ("lm", "tool", KIND) and all(
        key in line for key in ("program", "path", "example", "rollout")
    )


def runs(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield lists of records, one for each run of a trace, in the order of the trace.

    A new run begins after the record of a whole run, which is the last of its list, with another row or rollout, and
    where an LM call of the same place comes a second time.
    """
    run: list[Record] = []
    seen: set[tuple[Any, ...]] = set()
    for record in records:
        again = place(record) in seen
        if run and (again or any(record[key] != run[0][key] for key in ("example", "rollout"))):
            yield run
            run, seen = [], set()
        run.append(record)
        if record["kind"] == "lm":
            seen.add(place(record))
        elif record["kind"] == KIND:
            yield run
            run, seen = [], set()
    if run:
        yield run


def place(record: Record) -> tuple[Any, ...]:
    """Return a key of a record: the values of the fields that tell its call apart from the other calls of its run, None for
    each that it lacks."""
    return tuple(record.get(key) for key in ("kind", "program", "module", "tool", "parent", "path", "call", "attempt"))


def whole_path(record: Record) -> str:
    """Return the path of a call's step with the outer programs' steps before it, as `outer_step/inner_step`."""
    return f"{record['parent']}/{record['path']}" if record.get("parent") else str(record["path"])
