"""`fallback` and `balance` of an LM: the LMs that may answer in its place, resolved and checked."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Map
from dataclasses import replace

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.plan import LM, Plan
from lmprog.compiler.yaml.source import Node, Place, Sequence

FALLBACK, BALANCE = "fallback", "balance"
KEYS = (FALLBACK, BALANCE)


def with_routes(draft: Draft, lms: Map[str, LM]) -> dict[str, LM]:
    """Return the LMs by id, each with the LMs of its `balance` and `fallback`, which are marked as used.

    The fallbacks of a fallback come right after it, those of the LMs under `balance` after its own. A name that is not
    declared gets a finding and is left out; where LMs would answer for each other in a circle, a finding is added and
    `lms` returned unchanged.
    """
    named = {id: {key: list(_named(draft, id, key, lms)) for key in KEYS} for id in lms}
    circle = _circle(named)
    if circle is not None:
        _report_circle(draft, circle)
        draft.used |= {("lms", other) for of in named.values() for key in KEYS for other in of[key]}
        return dict(lms)
    found = {}
    for id, lm in lms.items():
        ring = list(dict.fromkeys(named[id][BALANCE]))
        behind = [other for member in (id, *ring) for other in _behind(named, member)]
        after = [other for other in dict.fromkeys(behind) if other != id and other not in ring]
        for other in (*ring, *after):
            draft.used.add(("lms", other))
        found[id] = replace(
            lm, balance=tuple(lms[other] for other in ring), fallback=tuple(lms[other] for other in after)
        )
    return found


def _named(draft: Draft, id: str, key: str, lms: Map[str, LM]) -> Iterator[str]:
    for item in _items(draft, id, key):
        other = item.plain()
        if other in lms:
            yield other
        elif other not in draft.dropped("lms"):
            message = f"`{key}` of LM `{id}` names `{other}`, which does not exist"
            draft.report.add(
                "LMP103", item.place, message, fix=suggestion(str(other), [each for each in lms if each != id], "lms")
            )


def _items(draft: Draft, id: str, key: str) -> list[Node]:
    listed = draft.node("lms", id, key)
    return listed.items if isinstance(listed, Sequence) else []


def _behind(named: Map[str, Map[str, list[str]]], id: str) -> Iterator[str]:
    for other in named[id][FALLBACK]:
        yield other
        yield from _behind(named, other)


def _circle(named: Map[str, Map[str, list[str]]]) -> tuple[str, ...] | None:
    """Return the ids of LMs that would answer for each other in a circle, the first once more at the end; None where there
    is no circle. `named` has, by LM and key, the ids that are named."""
    done: set[str] = set()

    def walk(id: str, trail: tuple[str, ...]) -> tuple[str, ...] | None:
        if id in trail:
            return (*trail[trail.index(id) :], id)
        if id in done:
            return None
        found = [walk(other, (*trail, id)) for key in KEYS for other in named[id][key]]
        done.add(id)
        return next((each for each in found if each is not None), None)

    return next((found for id in named if (found := walk(id, ())) is not None), None)


def _report_circle(draft: Draft, circle: tuple[str, ...]) -> None:
    for key in KEYS:
        for item in _items(draft, circle[0], key):
            if item.plain() == circle[1]:
                message = "these LMs would answer for each other in a circle"
                fix = f"take {circle[1]} out of `{key}` of `{circle[0]}`, or what leads back"
                draft.report.add("LMP207", item.place, message, path=circle, fix=fix)
                return


def check(draft: Draft, plan: Plan) -> None:
    """Report LMs under `fallback` or `balance` that are less trusted than the LM they answer for (LMP401), or lack what its
    modules need: the same `tool_protocol`, or constrained decoding (LMP101).

    Also report an LM whose weights are tuned while others may answer for it (LMP701).
    """
    for lm in plan.lms.values():
        for key in KEYS:
            for other in getattr(lm, key):
                place = next((item.place for item in _items(draft, lm.id, key) if item.plain() == other.id), None)
                _other(draft, plan, lm, other, place or draft.key("lms", lm.id, key), key)
        if len(lm.answering) > 1 and plan.optimize is not None:
            _trained(draft, plan, lm)


def _other(draft: Draft, plan: Plan, lm: LM, other: LM, place: Place, key: str) -> None:
    report = draft.report
    where = f"`{key}` of LM `{lm.id}`"
    if lm.trusted and not other.trusted:
        message = f"{where} would send to `{other.id}` what `{lm.id}` is trusted with, and `{other.id}` is not trusted"
        fix = f"take it out; or, where nothing private reaches `{lm.id}`, write trusted: false there"
        report.add("LMP401", place, message, path=(lm.id, f"{other.id} (untrusted)"), fix=fix)
    for module in plan.modules.values():
        if module.lm != lm.id:
            continue
        if module.tools and other.tool_protocol != lm.tool_protocol:
            message = (
                f"{where}: the agent `{module.id}` has tool_protocol: {lm.tool_protocol}, and `{other.id}` another one"
            )
            report.add("LMP101", place, message, fix="give both the same tool_protocol")
            return
        if module.decoding == "constrained" and not other.backend.constrained:
            message = f"{where}: the module `{module.id}` has decoding: constrained, which {other.model} cannot promise"
            report.add("LMP101", place, message, fix="take it out, or use format: json")
            return


def _trained(draft: Draft, plan: Plan, lm: LM) -> None:
    assert plan.optimize is not None
    for id, parts in plan.optimize.tune.items():
        if "weights" in parts and plan.modules[id].lm == lm.id:
            others = ", ".join(f"`{other.id}`" for other in lm.answering[1:])
            message = f"the weights of `{lm.id}` are tuned for `{id}`, and {others} could answer in its place"
            fix = "take fallback and balance out while it is trained: rows must be of the LM that learns"
            key = next(key for key in KEYS if draft.node("lms", lm.id, key) is not None)
            draft.report.add("LMP701", draft.key("lms", lm.id, key), message, fix=fix)
            return
