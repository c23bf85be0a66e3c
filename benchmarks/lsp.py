"""Measures the wait of an editor for the diagnostics of 1,000 steps after a change, over the protocol of `lmprog lsp`.

Run `python -m benchmarks.lsp`; it prints the time on the clock from the change to its diagnostics, with the DELAY that the
server waits for further changes, and the server's processor time. Target: less than 1 s.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.check import large_program
from lmprog.lsp.server import DELAY
from tests.functional.editor import editor

CHANGES = 7


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def waits(folder: Path, count: int) -> list[tuple[float, float]]:
    """Return for each change of a program the seconds until its diagnostics, and those of the server's processor."""
    path, text = (folder / "large.yaml").resolve(), large_program(count)
    found = []
    async with editor(folder) as own:
        server = own.client._server
        assert server is not None
        own.open(path, text)
        await own.until(path)
        for number in range(CHANGES):
            changed = text.replace("Say which.", f"Say which, {number}.")
            before, began = processor_seconds(server.pid), time.perf_counter()
            own.change(path, changed.replace("steps.s3.label", "steps.s3.lable", 1))
            await own.until(path, "LMP203")
            found.append((time.perf_counter() - began, processor_seconds(server.pid) - before))
            own.change(path, changed)
            await own.until(path)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(waits(Path(folder).resolve(), 1000))
    clock, processor = (statistics.median(one[index] for one in found) for index in (0, 1))
    print(
        f"1,000 steps: diagnostics {clock * 1000:.0f} ms after a change (of which the server waits {DELAY * 1000:.0f} ms)"
    )
    print(f"processor time of the server: {processor * 1000:.0f} ms; medians of {CHANGES} changes")


if __name__ == "__main__":
    main()
