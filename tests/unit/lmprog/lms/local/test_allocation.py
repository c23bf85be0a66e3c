"""Memory that is freed and taken again stays in the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each test starts processes that import torch.
pytestmark = pytest.mark.slow

SCRIPT = """
import ctypes, resource, sys
from lmprog.lms.local.allocation import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    raise SystemExit(5)
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes, library.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    taken = [library.malloc(8 << 20) for _ in range(12)]
    for address in taken:
        ctypes.memset(address, 1, 8 << 20)
    for address in taken:
        library.free(address)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 12 * (8 << 20) // 4096


def faults(how: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, env=environment)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the page faults of Linux")
def test_freed_memory_is_taken_again_without_faults() -> None:
    kept = faults("kept")
    if kept.returncode == 5:
        pytest.skip("the C library is not glibc")
    assert int(kept.stdout) < PAGES / 50, kept.stderr
    # Pages may be large, so that the faults without it are some hundreds.
    assert int(faults("returned").stdout) > 2 * int(kept.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="sets the allocator of Linux")
def test_what_the_environment_sets_holds() -> None:
    assert faults("kept", MALLOC_TRIM_THRESHOLD_="1000000").returncode == 5
