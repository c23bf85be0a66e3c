"""The limits of LMs that several workers share: one ledger lends each worker a part, by what the worker needs at present.

A worker and the ledger speak in turns: the worker says what it needs, and the answer is its part until its next turn. What
one worker has no use for goes to the others. Imports no ray, and reads no clock but the one that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmprog.compiler.lm_plan import Limits
from lmprog.lms.api.limits import Pace

LEASE = 30.0
"""Seconds after which the part of a worker that was not heard of goes to others; the worker then begins no further call."""
HORIZON = 1.0
"""Seconds before which starts of calls are promised: more than a worker takes between two turns, so that it never idles."""


@dataclass(frozen=True, slots=True)
class Need:
    """The need that a worker has of one LM: its calls in flight, and its calls that wait for a place.

    `starts` are the estimated tokens of the calls that have a place and wait for the time of their start, the first one first;
    `more` are the tokens that calls have used beyond their estimates since the last turn.
    """

    limits: Limits
    flying: int = 0
    waiting: int = 0
    starts: Sequence[int] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A worker's part of the limits of one LM until its next turn: calls that it may have in flight (None: no limit),
    and starts, each a time on the ledger's clock and the tokens of the call that it was promised to (none for an LM
    without a limit a minute)."""

    calls: int | None = None
    starts: Sequence[tuple[float, int]] = ()


@dataclass(slots=True)
class _Lent:
    """The part of one worker: `granted` calls, and those that it was granted `before`, which it may use until it has read the
    last answer; its next turn shows that it has.
    """

    before: int = 0
    granted: int = 0
    flying: int = 0
    wanted: int = 0
    until: float = 0.0

    @property
    def charged(self) -> int:
        """The most calls that the worker can have in flight before its next turn."""
        return max(self.before, self.granted, self.flying)


@dataclass(slots=True)
class _Account:
    limits: Limits
    pace: Pace
    lent: dict[int, _Lent] = field(default_factory=dict)


class Ledger:
    """The account of the limits of each LM, and of the part that each worker has of them; kept by the driver's thread for
    messages.

    The parts never add up to more than the whole. Times are those of the clock by which `now` is given.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def turn(self, worker: int, needs: Mapping[str, Need], now: float) -> tuple[dict[str, Part], set[int]]:
        """Take what a worker needs of each LM, by a name that all workers use for the LM; return the part of each LM
        that the worker is lent until its next turn, by the same names. LMs that `needs` does not have are left as they
        are.

        The second value has the numbers of the workers that should have a turn soon, since they have what others lack,
        or lack what is free.
        """
        parts, soon = {}, set[int]()
        for name, need in needs.items():
            account = self._accounts.setdefault(name, _Account(need.limits, Pace(need.limits)))
            calls = self._lend(account, worker, need, now)
            soon |= _lacking(account, now)
            parts[name] = Part(calls, _starts(account.pace, need, now))
        return parts, soon

    def gone(self, worker: int, now: float) -> set[int]:
        """Take back the calls that a worker which has died was lent of each LM's limits; starts that it was promised
        stay counted.

        Return the numbers of the workers that should soon say again what they need (`turn`), since they have what
        others lack, or lack what is free; empty where nobody lacks any. `now` is the time in seconds, on the same clock
        as for `turn`.
        """
        soon = set[int]()
        for account in self._accounts.values():
            account.lent.pop(worker, None)
            soon |= _lacking(account, now)
        return soon

    def _lend(self, account: _Account, worker: int, need: Need, now: float) -> int | None:
        whole = account.limits.concurrency
        if whole is None:
            return None
        account.lent = {each: lent for each, lent in account.lent.items() if lent.until > now or each == worker}
        own = account.lent.setdefault(worker, _Lent())
        own.before, own.flying, own.wanted, own.until = (
            own.granted,
            need.flying,
            need.flying + need.waiting,
            now + LEASE,
        )
        taken = sum(lent.charged for each, lent in account.lent.items() if each != worker)
        own.granted = max(0, min(_shares(account)[worker], whole - taken))
        return own.granted


def _lacking(account: _Account, now: float) -> set[int]:
    """Return the numbers of the workers that should have a turn soon, since one wants more places of this LM than it was
    granted: those that have more than their share, and where places are free those that lack some. Empty where nobody lacks
    any.
    """
    whole = account.limits.concurrency
    if whole is None:
        return set()
    shares = _shares(account)
    lacking = {each for each, lent in account.lent.items() if lent.granted < min(shares[each], lent.wanted)}
    if not lacking:
        return set()
    having = {each for each, lent in account.lent.items() if max(lent.before, lent.granted) > shares[each]}
    free = whole - sum(lent.charged for lent in account.lent.values() if lent.until > now)
    return having | (lacking if free > 0 else set())


def _shares(account: _Account) -> dict[int, int]:
    wanted = {worker: account.lent[worker].wanted for worker in sorted(account.lent)}
    return divided(account.limits.concurrency or 0, wanted)


def divided(whole: int, wanted: Mapping[int, int]) -> dict[int, int]:
    """Return the number of places that each worker gets of `whole`, by what each wants: nobody has more than another
    who wants more, unless all have what they want; what is then left is divided evenly (one more each to the first of
    `wanted` where it does not divide), so that a worker that gets work need not ask before its first call."""
    level, left, among = 0, whole, sorted(wanted.values())
    for number, want in enumerate(among):
        level = min(want, left // (len(among) - number))
        if level < want:
            break
        left -= want
    shares = {worker: min(want, level) for worker, want in wanted.items()}
    left = whole - sum(shares.values())
    for worker, want in wanted.items():
        if left and want > shares[worker]:
            shares[worker], left = shares[worker] + 1, left - 1
    each, rest = divmod(left, len(wanted) or 1)
    return {worker: share + each + (number < rest) for number, (worker, share) in enumerate(shares.items())}


def _starts(pace: Pace, need: Need, now: float) -> list[tuple[float, int]]:
    """Return the starts that are promised to the calls of a worker, each a time and the tokens of the call: those within
    HORIZON seconds, in the order of `need.starts`; the others are asked for again. Empty for an LM without limits a minute.
    """
    if not pace.limited:
        return []
    pace.correct(need.more)
    starts = []
    for tokens in need.starts:
        if pace.next(now) > now + HORIZON:
            break
        starts.append((pace.take(now, tokens), tokens))
    return starts
