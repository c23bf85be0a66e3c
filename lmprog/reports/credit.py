"""Credit reports as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmprog.credit.alone import Gains
from lmprog.credit.variance import Credit
from lmprog.reports.scores import difference_document, own_failures
from lmprog.scoring.evaluation import Scores, doubt
from lmprog.scoring.statistics import Estimate


def lines(credit: Credit) -> list[str]:
    """Return lines of text with the mean score, its deviation among the runs of a row, each module's share of the variance, and
    the failures.
    """
    report = [
        f"{credit.metric} {credit.reward} over {credit.rows} rows, {credit.repeats} runs of each; the runs of a row vary by "
        f"{100 * credit.deviation:.1f} points (standard deviation)"
    ]
    names = [module.module for module in credit.modules]
    width = max(map(len, [*names, "module"]))
    report.append(
        f"  {'module':<{width}}  {'calls a run':>11}  {'share of the variance':<24}  with all that may follow"
    )
    for module in credit.modules:
        shares = f"{_shown(module.share):<24}  {_shown(module.reached)}"
        report.append(f"  {module.module:<{width}}  {module.calls:>11.1f}  {shares}".rstrip())
    if credit.rest is not None and credit.rest.mean:
        report.append(f"  judges and tools, where every reply is the same: {credit.rest}")
    if credit.rest is None:
        report.append(
            "  all runs of a row score the same, so there is nothing to share; a higher --temperature may help"
        )
    for kind, (count, first) in credit.lost.items():
        report.append(f"  {count} {'run' if count == 1 else 'runs'} failed ({kind}) and not scored: {first}")
    report += own_failures(credit.failed)
    if credit.note is not None:
        report.append(f"  {credit.note}")
    return report


def gain_lines(gains: Gains, after: str, before: str) -> list[str]:
    """Return lines of text with the scores of the program before tuning, with the tuning of each module alone and, where there
    are several, of all together, each with its gain over the program before, and the failures.

    `after` and `before` are the names of the two files.
    """
    rows = [
        (before, gains.before, ""),
        *((f"+ {id}", scores, _gain(gains, scores)) for id, scores in gains.alone.items()),
    ]
    if len(gains.alone) > 1:
        rows.append(("+ all of them", gains.together, _gain(gains, gains.together)))
    width = max(len(name) for name, _, _ in rows)
    found = [f"what {after} tunes, each module alone: {gains.before.metric}, and the gain over {before}, paired"]
    found += [f"  {name:<{width}}  {scores.estimate!s:<22}  {gain}".rstrip() for name, scores, gain in rows]
    if len(gains.alone) > 1:
        found.append(f"  all together beyond the sum of each alone: {gains.interplay}")
    for kind, (count, first) in failures(gains).items():
        found.append(f"  {count} {'run' if count == 1 else 'runs'} failed ({kind}) and not scored: {first}")
    doubtful = doubt({name: scores for name, scores, _ in rows})
    return [*found, *own_failures(own(gains)), *([f"  {doubtful}"] if doubtful else [])]


def failures(gains: Gains) -> dict[str, tuple[int, str]]:
    """Return the outages in the scores of all versions: for each kind the number of runs, and the message of the first; empty
    where there were none.
    """
    return _summed(scores.causes for scores in _each(gains))


def own(gains: Gains) -> dict[str, tuple[int, str]]:
    """Return the own failures in the scores of all versions: for each kind the number of runs, and the message of the first;
    empty where there were none.
    """
    return _summed(scores.failures for scores in _each(gains))


def _each(gains: Gains) -> list[Scores]:
    """Return the scores of all versions; the only module's alone are those of all together, and count once."""
    return gains.all if len(gains.alone) > 1 else [gains.before, gains.together]


def _summed(counts: Iterable[Mapping[str, tuple[int, str]]]) -> dict[str, tuple[int, str]]:
    """Return the sums of counts by kind, each with its first message."""
    found: dict[str, tuple[int, str]] = {}
    for kinds in counts:
        for kind, (count, first) in kinds.items():
            earlier, cause = found.get(kind, (0, first))
            found[kind] = earlier + count, cause
    return found


def gain_document(gains: Gains) -> dict[str, Any]:
    """Return the gains as a dictionary: the metric, the scores `before`, `alone` (by module) and `together` (also of
    one module), each with its gain, the `interplay`, and the runs that outages (`lost`) or own failures (`failed`)
    ended."""

    def scored(scores: Any) -> dict[str, Any]:
        return {**scores.estimate.as_json(), "gain": difference_document(scores.against(gains.before))}

    return {
        "metric": gains.before.metric,
        "before": gains.before.estimate.as_json(),
        "alone": {id: scored(scores) for id, scores in gains.alone.items()},
        "together": scored(gains.together),
        "interplay": gains.interplay.as_json(),
        "lost": {kind: {"runs": count, "first": first} for kind, (count, first) in failures(gains).items()},
        "failed": {kind: {"runs": count, "first": first} for kind, (count, first) in own(gains).items()},
    }


def share_line(modules: Sequence[Mapping[str, Any]]) -> str:
    """Return the modules' shares in one line, as `query 62.0% [50.1, 74.2], answer 38.0% [25.8, 49.9]`; modules without
    one are left out. A sentence where no module has a share.

    `modules` are those of a credit report as JSON, mappings with `module` and `share` (None: not known).
    """
    shares = [
        (module["module"], Estimate.from_json(module["share"])) for module in modules if module["share"] is not None
    ]
    return ", ".join(f"{module} {share}" for module, share in shares) or "no run of a row differs from another"


def _gain(gains: Gains, scores: Any) -> str:
    """Return the paired gain of a version's scores over the program before as text."""
    return str(scores.against(gains.before))


def _shown(share: Estimate | None) -> str:
    """Return a share as text, `-` where it is not known (None)."""
    return "-" if share is None else str(share)
