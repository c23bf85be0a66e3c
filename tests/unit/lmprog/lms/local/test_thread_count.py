"""The number of threads: fewer beside other work, all of them again afterwards, and the same results whatever it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor

torch = pytest.importorskip("torch", reason="needs the extra 'local'")

from lmprog.lms.local import thread_count  # noqa: E402
from lmprog.lms.local.attention import _join  # noqa: E402
from lmprog.lms.local.sums import AT_ONCE, over_rows  # noqa: E402
from lmprog.lms.local.thread_count import MAX_PAUSE, ThreadCount, even, fitting  # noqa: E402
from lmprog.optimizers.grpo.torch.logprobs import _sums  # noqa: E402
from lmprog.optimizers.grpo.torch.tree_attention import _log_of_sum  # noqa: E402


class Machine:
    """A test double of a machine with some processors, of which other processes have `taken`; its clock moves when asked."""

    def __init__(self, processors: int, taken: float = 0.0) -> None:
        self.processors, self.taken = processors, taken
        self.clock = self.used = 0.0
        self.bursts = 0
        self.count = ThreadCount(
            processors, clock=lambda: self.clock, processor=lambda: self.used, apply=lambda n: None, burst=self._burst
        )

    def compute(self, seconds: float) -> None:
        """Compute for a while, with a check after each hundredth of a second."""
        self.count.begin()
        for _ in range(round(seconds * 100)):
            self._pass(0.01)
            self.count.check()

    def _pass(self, seconds: float) -> None:
        # A thread that shares its processor with another process has half of it.
        free = self.processors - self.taken
        threads = self.count.now
        self.clock += seconds
        self.used += seconds * (threads if threads <= free else free + (threads - free) / 2)

    def _burst(self) -> None:
        self.bursts += 1
        self._pass(0.005)


@pytest.mark.parametrize(
    "used, threads, fit", [(2.0, 2, 2), (1.7, 2, 2), (1.5, 2, 1), (0.4, 2, 1), (7.7, 8, 8), (7.5, 8, 6), (3.0, 8, 3)]
)
def test_as_many_threads_fit_as_have_a_processor(used: float, threads: int, fit: int) -> None:
    assert fitting(used, threads) == fit


@pytest.mark.parametrize("processors", [2, 8])
def test_a_quiet_machine_keeps_all_threads(processors: int) -> None:
    machine = Machine(processors)
    machine.compute(30)
    assert machine.count.now == processors
    assert machine.bursts == 0


@pytest.mark.parametrize("processors, taken, left", [(2, 1, 1), (2, 2, 1), (8, 1, 6), (8, 4, 4)])
def test_a_neighbour_is_noticed_within_a_third_of_a_second(processors: int, taken: int, left: int) -> None:
    machine = Machine(processors)
    machine.compute(1)
    machine.taken = taken
    machine.compute(0.3)
    assert machine.count.now == left


def test_the_threads_come_back_when_the_neighbour_has_gone() -> None:
    machine = Machine(2, taken=1)
    machine.compute(60)
    assert machine.count.now == 1
    machine.taken = 0
    machine.compute(2 * MAX_PAUSE)
    assert machine.count.now == 2


def test_a_neighbour_that_stays_costs_ever_fewer_bursts() -> None:
    machine = Machine(2, taken=1)
    machine.compute(10)
    first = machine.bursts
    machine.compute(100)
    assert 0 < machine.bursts - first <= 8 * first
    assert machine.bursts * 0.005 < 0.01 * machine.clock


def test_after_a_quiet_time_a_short_disturbance_costs_a_second() -> None:
    machine = Machine(2)
    for _ in range(6):
        machine.taken = 1
        machine.compute(0.2)
        machine.taken = 0
        machine.compute(2 * MAX_PAUSE)
    machine.taken = 1
    machine.compute(0.2)
    machine.taken = 0
    machine.compute(1.2)
    assert machine.count.now == 2


def test_the_time_between_two_passes_is_not_measured() -> None:
    machine = Machine(2)
    for _ in range(100):
        machine.clock += 1.0  # Python alone, with no thread at work
        machine.compute(0.03)
    assert machine.count.now == 2


def test_outside_of_computing_a_check_does_nothing(monkeypatch) -> None:
    monkeypatch.setattr(thread_count, "_count", None)
    thread_count.check()
    thread_count.begin_pass()


def test_the_number_of_threads_is_as_before_after_the_block(monkeypatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(thread_count, "_adapts", True)
    monkeypatch.setattr(thread_count, "_count", ThreadCount(3))
    with thread_count.computing():
        assert torch.get_num_threads() == 3
        with thread_count.alone():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before
    with thread_count.computing("cuda"):
        assert torch.get_num_threads() == before


def for_any_number_of_threads(compute: Callable[[], Tensor]) -> None:
    """Assert that `compute` gives the same bits for 1, 2, 3, 4 and 8 threads."""
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4, 8):
            torch.set_num_threads(threads)
            found.append(compute())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("rows", [AT_ONCE, 2 * AT_ONCE, 4 * AT_ONCE, 4 * AT_ONCE + 100])
@pytest.mark.parametrize("width", [192, 576])
def test_rounding_in_a_sumover_rows_is_the_same_for_any_number_of_threads(rows: int, width: int) -> None:
    """Rows that cancel leave nothing but what was rounded, and so show the order of the sum."""
    torch.manual_seed(0)
    order = torch.randperm(rows)
    left, right = (torch.randn(rows // 2, n).bfloat16() for n in (16, width))
    left, right = torch.cat([left, -left])[order], torch.cat([right, right])[order]
    for_any_number_of_threads(lambda: over_rows(left, right))
    for_any_number_of_threads(lambda: over_rows(right, left))


@pytest.mark.parametrize("nodes", [3641, 3701, 4001, 5003])
def test_the_join_of_attention_is_the_same_for_any_number_of_threads(nodes: int) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(nodes, 9) * 3, torch.randn(nodes, 9) * 3
    left[::5] = float("-inf")
    for_any_number_of_threads(lambda: _log_of_sum(left, right))
    assert torch.allclose(_log_of_sum(left, right), torch.logaddexp(left, right), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("replies", [2, 13, 37, 64])
@pytest.mark.parametrize("pieces", [2, 3])
def test_the_join_of_a_wave_is_the_same_for_any_number_of_threads(pieces: int, replies: int) -> None:
    torch.manual_seed(0)
    parts = [(torch.randn(3, 3, replies, 8), torch.randn(3, 3, replies) * 4) for _ in range(pieces)]
    for_any_number_of_threads(lambda: _join(parts))
    weights = torch.stack([weight for _, weight in parts]).softmax(0).unsqueeze(-1)
    exact = (torch.stack([output for output, _ in parts]) * weights).sum(0)
    assert torch.allclose(_join(parts), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 65])
def test_sums_over_the_vocabulary_are_the_same_for_any_number_of_threads(rows: int) -> None:
    torch.manual_seed(0)
    values = torch.randn(rows, 49_152)
    for_any_number_of_threads(lambda: _sums(values))
    assert torch.allclose(_sums(values), values.double().sum(-1).float(), atol=0.01)


@pytest.mark.parametrize(
    ("threads", "expected"),
    [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 6), (7, 6), (8, 8), (11, 8), (12, 12), (17, 16)],
)
def test_the_numbers_of_threads_are_powers_of_two_or_three_times_one(threads: int, expected: int) -> None:
    assert even(threads) == expected


@pytest.mark.parametrize("rows", [3, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE + 100])
def test_a_gradient_over_many_rows_is_the_same_to_the_bit_for_any_number_of_threads(rows: int) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(rows, 16).bfloat16(), torch.randn(rows, 192).bfloat16()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4, 8):
            torch.set_num_threads(threads)
            found.append((over_rows(left, right), over_rows(right, left)))
    finally:
        torch.set_num_threads(before)
    exact = left.double().t() @ right.double()
    for one, other in found:
        assert torch.equal(one, found[0][0]) and torch.equal(other, found[0][1])
    assert torch.allclose(found[0][0].double(), exact, rtol=0.02, atol=0.02 * rows**0.5)
