"""The ledger of limits: parts of workers that never add up to more than the whole, and what is lent of them."""

from __future__ import annotations

import random
from itertools import pairwise, product

import pytest

from lmprog.compiler.lm_plan import Limits
from lmprog.runners.ledger import HORIZON, LEASE, Ledger, Need, divided

CALLS = Limits(concurrency=6)


def part(ledger: Ledger, worker: int, flying: int, waiting: int, now: float = 0.0) -> tuple[int | None, set[int]]:
    parts, soon = ledger.turn(worker, {"lm": Need(CALLS, flying, waiting)}, now)
    return parts["lm"].calls, soon


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_places_are_divided_by_what_is_wanted(workers: int) -> None:
    for whole, wants in product(range(8), product(range(5), repeat=workers)):
        wanted = dict(enumerate(wants))
        shares = divided(whole, wanted)
        assert sum(shares.values()) == whole
        short = [worker for worker in wanted if shares[worker] < wanted[worker]]
        if short:  # then nobody has more than he wants, nor more than one place beyond those who lack some
            assert all(shares[worker] <= wanted[worker] for worker in wanted)
            assert max(shares.values()) <= min(shares[worker] for worker in short) + 1


def test_an_idle_worker_lends_its_places_and_gets_them_back() -> None:
    ledger = Ledger()
    assert part(ledger, 0, 0, 0) == (6, set())
    assert part(ledger, 1, 0, 5) == (0, {0})  # worker 0 has all of them, and should have a turn
    assert part(ledger, 0, 0, 0) == (1, {0})  # until it has read that, it may still use all six
    assert part(ledger, 0, 0, 0) == (1, {1})
    assert part(ledger, 1, 0, 5) == (5, set())
    # Now worker 0 has work: it gets half as calls of the other end.
    assert part(ledger, 0, 1, 9) == (1, {1})
    assert part(ledger, 1, 5, 4) == (3, {1})
    assert part(ledger, 1, 5, 4) == (3, set())  # five are still in flight
    assert part(ledger, 0, 1, 9) == (1, set())
    assert part(ledger, 1, 3, 4) == (3, {0})
    assert part(ledger, 0, 1, 9) == (3, set())


def test_a_worker_that_died_gives_its_part_back() -> None:
    ledger = Ledger()
    part(ledger, 0, 0, 6)
    assert part(ledger, 1, 0, 6) == (0, {0})
    assert ledger.gone(0, 0.0) == {1}
    assert part(ledger, 1, 0, 6) == (6, set())


def test_a_worker_that_is_silent_keeps_its_part_until_its_lease_ends() -> None:
    ledger = Ledger()
    part(ledger, 0, 0, 6)
    assert part(ledger, 1, 0, 6, LEASE - 1)[0] == 0
    assert part(ledger, 1, 0, 6, LEASE + 1)[0] == 6


def test_a_limit_that_there_is_not_is_not_lent() -> None:
    parts, soon = Ledger().turn(0, {"lm": Need(Limits(requests_per_minute=60.0), starts=(0,))}, 5.0)
    assert (parts["lm"].calls, parts["lm"].starts, soon) == (None, [(5.0, 0)], set())


def test_starts_are_promised_for_a_short_time_and_to_all_workers_in_turn() -> None:
    ledger, now = Ledger(), 0.0
    given: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(40):
        for worker in given:
            # One worker has many calls, the other one call at a time.
            starts = (0,) * (50 if worker == 0 else 1)
            parts, _ = ledger.turn(worker, {"lm": Need(Limits(requests_per_minute=600.0), starts=starts)}, now)
            given[worker] += [at for at, _ in parts["lm"].starts]
            assert all(now <= at <= now + HORIZON for at, _ in parts["lm"].starts)
            now += 0.1
    every = sorted(given[0] + given[1])
    assert all(later - at == pytest.approx(0.1) for at, later in pairwise(every))
    assert len(given[1]) >= 35  # the first one does not take all


def test_a_worker_alone_has_the_whole_rate_and_tokens_are_put_right() -> None:
    ledger, limits = Ledger(), Limits(tokens_per_minute=6000.0)
    parts, _ = ledger.turn(0, {"lm": Need(limits, starts=(50, 50, 50))}, 0.0)
    assert parts["lm"].starts == [(0.0, 50), (0.5, 50), (1.0, 50)]
    parts, _ = ledger.turn(1, {"lm": Need(limits, starts=(10,), more=-100)}, 1.0)
    assert parts["lm"].starts == [(1.0, 10)]


@pytest.mark.parametrize("seed", range(20))
def test_the_calls_in_flight_are_never_more_than_the_whole(seed: int) -> None:
    """Workers that begin and end calls at random, read answers late, die, and come back."""
    draw, ledger, limits = random.Random(seed), Ledger(), Limits(concurrency=5)
    flying, waiting, granted = [0] * 4, [0] * 4, [0] * 4
    unread: list[int | None] = [None] * 4
    lent = 0
    for now in range(400):
        worker = draw.randrange(4)
        match draw.randrange(8):
            case 0 | 1 | 2 if unread[worker] is None:
                parts, _ = ledger.turn(worker, {"lm": Need(limits, flying[worker], waiting[worker])}, now / 100)
                unread[worker] = parts["lm"].calls or 0
            case 0 | 1 | 2:
                granted[worker], unread[worker] = unread[worker] or 0, None
                lent = max(lent, granted[worker])
            case 3 | 4:
                waiting[worker] += draw.randrange(1 if worker == 3 else 4)
            case 5 | 6:
                flying[worker] -= flying[worker] > 0
            case 7 if draw.random() < 0.1:
                ledger.gone(worker, now / 100)
                flying[worker] = waiting[worker] = granted[worker] = 0
                unread[worker] = None
        begun = max(0, min(waiting[worker], granted[worker] - flying[worker]))
        flying[worker], waiting[worker] = flying[worker] + begun, waiting[worker] - begun
        assert sum(flying) <= 5
    assert lent > 2  # more than an equal share
