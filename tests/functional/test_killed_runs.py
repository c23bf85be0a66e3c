"""A run over rows that is killed at any moment goes on: every row once, every record once, no torn line.

LMPROG_KILLS=50 kills it that often.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.functional.traced import calls

pytestmark = pytest.mark.kill

ROWS = 2000
KILLS = int(os.environ.get("LMPROG_KILLS", "5"))
COMMAND = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "run"]


def test_every_row_once_after_kills(write, provider, tmp_path: Path) -> None:
    spec = write(f"""
        lmprog: 1
        name: echo
        lms: {{lm: {{model: openai/echo, api_base: "{provider.url}", api_key: none, trusted: true}}}}
        modules:
          echo: {{inputs: {{text: str}}, outputs: {{reply: str}}, instructions: Echo.}}
    """)
    provider.otherwise = lambda text: f"reply to {text} " + "x" * random.Random(text).randrange(400)
    rows, out, trace = tmp_path / "rows.jsonl", tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    rows.write_text("".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(ROWS)))
    command = [*COMMAND, str(spec), "--inputs", str(rows), "--out", str(out), "--trace", str(trace)]
    moments, killed, torn = random.Random(0), 0, 0
    while killed < KILLS:
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = out.stat().st_size if out.exists() else 0
        # A start takes about a second; what matters is what comes after the first row that it adds.
        while running.poll() is None and (not out.exists() or out.stat().st_size == before):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 1.2 * 1.5 / KILLS))
        if running.poll() is not None:
            assert running.returncode == 0
            out.unlink()  # it came to its end before the kill: another run is begun
            trace.unlink()
            continue
        running.send_signal(signal.SIGKILL)
        running.wait()
        killed += 1
        torn += not out.read_bytes().endswith(b"\n")
    subprocess.run(command, check=True, capture_output=True)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["row"] for line in written] == list(range(ROWS))
    assert all(
        line["error"] is None and line["outputs"]["reply"].startswith(f"reply to row {line['row']} ")
        for line in written
    )
    records = calls(trace)
    assert [record["example"] for record in records] == list(range(ROWS))
    assert [record["outputs"] for record in records] == [line["outputs"] for line in written]
    print(f"{killed} kills, {torn} left a torn line")
