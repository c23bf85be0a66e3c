"""The number of threads that torch computes with: all of them on a quiet machine, fewer beside other work.

The threads of GNU OpenMP spin while they wait for each other. On a quiet machine n threads therefore use n processors for as
long as they compute. Where another process runs on one of these processors, a thread that has no processor keeps all others
waiting, at each of the thousands of products of a pass, and the processors used in a second of the clock fall below n. That
is the signal here: it is measured in the passes that are made anyway, at most every `WINDOW` seconds. To find out whether the
processors are free again, a burst of products with all threads is timed, ever more rarely as long as they are not.

The number of threads changes no result. What depends on it in torch is kept out of the engine and the training passes:

    a' b over 2,048 rows or more     oneDNN makes as many sums as suit the threads: split by rows (`sums.py`)
    a sum with a single result       torch makes a sum for each thread: of two rows instead (`logprobs.py`), or `alone`
    softmax of an outer dimension    the last elements of each thread's share, where it does not fill a vector, are computed
    logaddexp, silu                  by another formula: the first two are spelt out (`attention.py`, `tree_attention.py`), and
                                     the numbers of threads are such that the width of a layer divides into whole vectors
                                     (`even`)
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import torch

from lmprog.lms.local.openmp import libraries

WINDOW = 0.05
"""Seconds of computing after which the processors used are compared with the threads."""
MISSING = 0.35
"""Processors that n threads may lack of n before some other process is taken to have them."""
BURST = 0.02
"""Seconds of a burst that looks for free processors."""
FIRST_PAUSE, MAX_PAUSE = 1.0, 16.0
"""Seconds between two bursts: the first after other work was noticed, twice as many after each that found it still there."""


def even(threads: int) -> int:
    """Return the largest number up to `threads` (1 or more) that is a power of two, or a power of two times three."""
    power = 1 << (threads.bit_length() - 1)
    return power + power // 2 if threads >= power + power // 2 else power


def fitting(used: float, threads: int) -> int:
    """Return how many of `threads` threads had a processor each, where they used `used` processors together: all of them
    where at most MISSING (0.35) processors are missing, else about `used`, rounded down by `even`, and at least 1.
    """
    return threads if used >= threads - MISSING else even(max(1, int(used + 0.1)))


class ThreadCount:
    """The number of threads of this process (`now`), between 1 and `most`, which follows the processors that other
    processes leave free.

    `clock` and `processor` return seconds: of the clock, and of all processors that this process has used. `apply` sets
    the number of threads of the calling thread, `burst` computes for a moment with all threads (None: some products).
    """

    def __init__(
        self,
        most: int,
        clock: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.process_time,
        apply: Callable[[int], None] = torch.set_num_threads,
        burst: Callable[[], None] | None = None,
    ) -> None:
        self.most = self.now = most
        self._clock, self._processor, self._apply = clock, processor, apply
        self._burst = burst or _products
        self._computed = self._used = 0.0
        self._last: tuple[float, float] | None = None
        self._pause = FIRST_PAUSE
        self._next_burst = self._quiet_since = clock()

    def begin(self) -> None:
        """Start measuring now; time before it (Python code between two passes) is not counted."""
        self._last = (self._clock(), self._processor())

    def check(self) -> None:
        """Count the computing time since the last call or `begin`; once it comes to WINDOW seconds (0.05), lower
        `now` where fewer processors were used, else, where it is below `most` and a pause (1 to 16 s) is over,
        compute a burst of BURST seconds (0.02) with all threads and raise it to what that finds free. A new number
        is set for the calling thread."""
        clock, processor = self._clock(), self._processor()
        if self._last is not None:
            self._computed += clock - self._last[0]
            self._used += processor - self._last[1]
        self._last = (clock, processor)
        if self._computed < WINDOW:
            return
        used = self._used / self._computed
        self._computed = self._used = 0.0
        if self.now > 1 and (fit := fitting(used, self.now)) < self.now:
            self._lower(fit, clock)
        elif self.now < self.most and clock >= self._next_burst:
            self._try_more()
        elif self.now == self.most and clock - self._quiet_since > MAX_PAUSE:
            self._pause = FIRST_PAUSE

    def _lower(self, threads: int, clock: float) -> None:
        self._set(threads)
        self._next_burst = clock + self._pause
        self._pause = min(MAX_PAUSE, 2 * self._pause)

    def _try_more(self) -> None:
        before = self.now
        self._set(self.most)
        self._burst()  # wakes the threads
        start, used = self._clock(), self._processor()
        while (elapsed := self._clock() - start) < BURST:
            self._burst()
        found = fitting((self._processor() - used) / elapsed, self.most)
        if found > before:
            self._set(found)
            self._quiet_since = self._clock()
            self._next_burst = self._quiet_since + self._pause
        else:
            self._lower(before, self._clock())
        self._last = (self._clock(), self._processor())

    def _set(self, threads: int) -> None:
        self.now = threads
        self._apply(threads)


_matrices = (torch.ones(64, 576), torch.ones(576, 1536))


def _products() -> None:
    for _ in range(4):
        torch.mm(*_matrices)


_count = ThreadCount(even(torch.get_num_threads()))
_adapts = bool(libraries()) and _count.most > 1
"""True where the number of threads may change: only the threads of GNU OpenMP spin, so that their use of processors shows
other work.
"""
_here = threading.local()


@contextlib.contextmanager
def computing(device: str = "cpu") -> Iterator[None]:
    """Return a context inside which torch computes with as many threads as have a free processor; `check` may change
    their number meanwhile, and at the end it is put back. It may be inside another one. On a `device` other than `cpu`
    nothing changes.
    """
    if not _adapts or device != "cpu":
        yield
        return
    before, outer = torch.get_num_threads(), getattr(_here, "computes", False)
    torch.set_num_threads(_count.now)
    _here.computes = True
    _count.begin()
    try:
        yield
    finally:
        _leave(outer, before)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Return a context inside which torch computes with one thread where the number of threads may change, for sums
    that depend on that number; at the end the number is put back.
    """
    if not _adapts:
        yield
        return
    before, outer = torch.get_num_threads(), getattr(_here, "computes", False)
    torch.set_num_threads(1)
    _here.computes = False
    try:
        yield
    finally:
        _leave(outer, before)


def _leave(outer: bool, before: int) -> None:
    torch.set_num_threads(before)
    _here.computes = outer
    if outer:
        _count.begin()


def begin_pass() -> None:
    """Restart the measurement before a forward pass, so that Python code before it is not counted. Nothing happens outside
    of `computing`.
    """
    if getattr(_here, "computes", False):
        _count.begin()


def check() -> None:
    """Adapt the number of threads to the machine's other work; nothing happens outside of `computing`.

    It is to be called often, as in each layer.
    """
    if getattr(_here, "computes", False):
        _count.check()
