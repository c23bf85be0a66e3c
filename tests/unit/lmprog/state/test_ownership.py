"""One writer at a time, whoever asks under which name; a killed one leaves nothing behind that locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmprog.state.ownership import WriterLocked, exclusive_writer

HOLD = """
import sys, time
from pathlib import Path
from lmprog.state.ownership import exclusive_writer
with exclusive_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_with_the_firsts_process_id(tmp_path: Path) -> None:
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    path.touch()
    link.symlink_to(path)
    with exclusive_writer(path):
        for name in (path, link, tmp_path / "." / "out.jsonl"):
            with (
                pytest.raises(WriterLocked, match=f"is being written by process {os.getpid()}; wait until") as refused,
                exclusive_writer(name),
            ):
                pass
            assert refused.value.exit_status == 3
        with exclusive_writer(tmp_path / "other.jsonl"):
            pass
    with exclusive_writer(path):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.jsonl", "out.jsonl"]


@pytest.mark.parametrize("folder", [False, True])
def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "run"
    if folder:
        path.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(WriterLocked, match=f"process {holder.pid};"), exclusive_writer(path):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with exclusive_writer(path):
        pass


def test_a_device_is_nobodys() -> None:
    with exclusive_writer(Path("/dev/null")), exclusive_writer(Path("/dev/null")):
        pass
