"""The types of the names `trace` (a run) and `runs` (all runs of a row) in a metric's expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Field, Metric, Module
from lmprog.compiler.types.lattice import INT, STR, UNKNOWN, Enum, ListOf, Object, Type

COUNTS = ("calls", "prompt_tokens", "reply_tokens", "cut", "forgiven")
"""Counts of LM calls: their number, their tokens, replies cut at `max_tokens`, and replies read with repairs."""


def trace_of(draft: Draft) -> Object:
    """Return the type of `trace` in a program: that of its own modules and tools, of an ensemble's of its first member."""
    if draft.members:
        return trace_type(next(iter(draft.members.values())).modules)
    # A sub-program calls tools of its own, and a server whose tools are not known has any.
    open_ended = draft.node("programs") is not None or None in draft.servers.values() or draft.dropped("tools")
    runs_others = any("program" in node.entries or "program" in node.dropped for node in draft.step_nodes.values())
    return trace_type(draft.modules, () if open_ended or runs_others else tuple(draft.tools))


def trace_type(modules: Mapping[str, Module], tools: tuple[str, ...] = ()) -> Object:
    """Return the type of `trace`, one run: the counts of all LM calls, the ids of the tools called, and by module id the
    counts, replies and outputs of each module's calls. `tools` are all that a run can call (empty: not known)."""
    counts = tuple((name, INT) for name in COUNTS)
    of_modules = tuple((id, Object((*counts, *_said(module.outputs)))) for id, module in modules.items())
    return Object((*counts, ("tools", ListOf(Enum(tools) if tools else STR)), ("modules", Object(of_modules))))


def _said(outputs: Mapping[str, Field]) -> tuple[tuple[str, Type], ...]:
    """Return the fields `replies`, a module's replies as they came, and `outputs`, the values that were read in them, each
    a list in the order of the calls."""
    values = Object(tuple((name, ListOf(field.type)) for name, field in outputs.items()))
    return ("replies", ListOf(STR)), ("outputs", values)


def runs_type(outputs: Mapping[str, Type], known: bool) -> Object:
    """Return the type of `runs`, the runs of one row that ended: for each of their `outputs` the list of its values
    over the runs, the list `reply_tokens`, and `index0`, the number (from 0) of the run that is scored.

    With `known` False the program's outputs could not be read, and any field of `outputs` may be read.
    """
    values = Object(tuple((name, ListOf(kind)) for name, kind in outputs.items())) if known else UNKNOWN
    return Object((("index0", INT), ("reply_tokens", ListOf(INT)), ("outputs", values)))


def reads(metrics: Mapping[str, Metric], id: str, root: str) -> bool:
    """Return whether the metric `id`, or one that it is computed from, reads a root such as `runs`; False for an id that
    is not among `metrics`."""
    return any(name[0] == root for name in _names(metrics, id))


def columns(metrics: Mapping[str, Metric], id: str) -> set[str]:
    """Return the columns of the row that the metric `id`, or one that it is computed from, reads by name, which
    `row` as a whole does not; empty for an id that is not among `metrics`."""
    return {name[1] for name in _names(metrics, id) if name[0] == "row" and len(name) > 1}


def _names(metrics: Mapping[str, Metric], id: str) -> Iterator[tuple[str, ...]]:
    """Yield the dotted names that a metric, or one that it is made of, reads."""
    pending, seen = [id], set()
    while pending:
        metric = metrics.get(name := pending.pop())
        if metric is None or name in seen:
            continue
        seen.add(name)
        for expression in metric.expressions:
            yield from expression.references
            pending += [read[1] for read in expression.references if read[0] == "metrics" and len(read) > 1]
