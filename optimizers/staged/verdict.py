"""Sentences on what an optimization keeps and the tests that decided it, from the `accepted` part of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.scoring.small_samples import few


def verdict(accepted: Mapping[str, Any], stages: Sequence[str]) -> str:
    """Return a sentence on which stage's program is kept and why; `accepted` has the `tests`, the `rule` and the number
    `kept` as in a report, `stages` are the stages' names in order."""
    kept, rule = accepted["kept"], accepted["rule"]
    named = f"the program after stage {kept}, {stages[kept - 1]}," if kept else "the program as written"
    if rule == "point":
        found = (
            "is kept: the best estimate, untested (accept: point)" if kept else "is kept: no stage found a better one"
        )
        return f"{named} {found}"
    if not accepted["confirm"]:
        return f"{named} is kept: none of {accepted['choose']} dev rows is left to confirm a gain"
    if kept:
        test = next(test for test in accepted["tests"] if test["number"] == kept and test["passed"])
        return f"{named} is kept: {_found(test)}"
    if not accepted["tests"]:
        return f"{named} is kept: no stage found a better one"
    if any(test["lost"] for test in accepted["tests"]):
        return f"{named} is kept: outages void the test; --resume makes it again"
    return f"{named} is kept: no gain is confirmed on {accepted['confirm']} rows"


def described(test: Mapping[str, Any], stages: Sequence[str]) -> str:
    """Return a sentence on the result of one test (confirmed, not confirmed, or why it is void); `test` is a GainTest
    as a dictionary of `as_json`, as in a report, and `stages` are the names of all stages in their order, since a
    test has their numbers, from 1."""
    against = f"after stage {test['against']}" if test["against"] else "as written"
    what = f"after stage {test['number']}, {stages[test['number'] - 1]}, against the program {against}"
    if test["lost"]:
        return f"{what}: {test['lost']}"
    if test["passed"]:
        return f"{what}: {_found(test)}: confirmed"
    remark = few(test["n"], test["difference"]["ci95"], test["level"])
    return f"{what}: {_found(test)}: not confirmed{f'; {remark}' if remark is not None else ''}"


def _found(test: Mapping[str, Any]) -> str:
    low, high = test["difference"]["ci95"]
    gain = f"{100 * test['difference']['mean']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    return (
        f"{gain} on {test['n']} confirming rows, one-sided p = {test['p_one_sided']:.2g} (at most {test['level']:.2g})"
    )
