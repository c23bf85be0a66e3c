"""The threads that torch multiplies with: those of a thread of Python that is done are gone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")

from lmprog.lms.local import openmp  # noqa: E402

TASKS = Path("/proc/self/task")


def test_a_thread_that_is_done_leaves_no_threads_behind_and_computes_on() -> None:
    if not openmp.libraries() or torch.get_num_threads() < 2:
        pytest.skip("torch computes with no GNU OpenMP here, or in one thread")
    left, right = torch.randn(2, 256, 256)
    expected = left @ right

    def threads() -> set[str]:  # by number: those of tests before this one may end at any time
        return {task.name for task in TASKS.iterdir()}

    with ThreadPoolExecutor(1) as other:
        other.submit(openmp.release_threads).result()
        before = threads()
        assert torch.equal(other.submit(torch.matmul, left, right).result(), expected)
        assert not threads() <= before
        other.submit(openmp.release_threads).result()
        assert threads() <= before
        assert torch.equal(other.submit(torch.matmul, left, right).result(), expected)


def test_nothing_happens_where_torch_has_another_library(monkeypatch) -> None:
    monkeypatch.setattr(openmp, "libraries", list)
    openmp.release_threads()
