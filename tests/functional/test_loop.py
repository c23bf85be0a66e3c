"""docs/loop.md as its reader goes through it: served, asked 50 times, feedback, rows, and better on rows held out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lmprog.traces.feedback import read_feedback
from tests.functional.test_docs_blocks import DOCS, Block, Reader, blocks
from tests.functional.traced import lines_of
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

LABEL = r"track_parcel|refund_status|wrong_item|exchange_size|reset_password|gift_card|cancel_order|repair_gear"


class Clerk:
    """Stands for the provider: right where its prompt shows a demo of the label, and else it says the first label."""

    def __init__(self, rows: Path) -> None:
        self.labels = {row["text"]: row["label"] for row in map(json.loads, rows.read_text().splitlines())}

    def __call__(self, body: dict[str, Any]) -> str:
        *before, last = body["messages"]
        shown = {
            label
            for message in before
            if message["role"] == "assistant"
            for label in re.findall(LABEL, message["content"])
        }
        wanted = next(label for text, label in self.labels.items() if text in last["content"])
        return wanted if wanted in shown else "track_parcel"


class Loop(Reader):
    """Goes through the page; a block that serves is a process in the background, on a free port."""

    url = ""
    said = ""

    def serve(self, block: Block) -> subprocess.Popen[str]:
        command = block.text.replace("--port 8000", "--port 0").replace(
            "lmprog", str(Path(sys.executable).with_name("lmprog"))
        )
        process = subprocess.Popen(
            command.split(), cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        self.url = found.group()
        # What is not read would hold the server up.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        return process

    def run(self, *command: str, **more: Any) -> Any:
        if command[-1].startswith("python app.py"):
            command = (*command[:-1], f"python app.py {self.url}")
        done = super().run(*command, **more)
        self.said += done.stdout
        return done


def test_a_week_in_production_then_better(provider, tmp_path: Path) -> None:
    reader = Loop(tmp_path)
    provider.answer = Clerk(tmp_path / "specs" / "quickstart" / "dev.jsonl")
    reader.environment |= {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "none-needed"}
    servers: list[subprocess.Popen[str]] = []
    try:
        for block in blocks(DOCS / "loop.md"):
            if block.text.startswith("lmprog serve"):
                servers.append(reader.serve(block))
            elif block.language == "python":
                reader.keep(block)
            else:
                reader.read(block)
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
        assert [server.wait(PATIENCE) for server in servers] == [0] * len(servers)
    week = tmp_path / "week.jsonl"
    assert len(lines_of(week, "run")) == len(read_feedback(week)) == 50
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["text"], row["label"]) for row in rows] == [
        (row["text"], row["label"]) for row in map(json.loads, (tmp_path / "requests.jsonl").read_text().splitlines())
    ]
    assert os.stat(tmp_path / "rows.jsonl").st_mode & 0o777 == 0o600
    # The demos are answers that people gave, none of them of a row that is held out.
    found = re.search(r"difference, paired: ([+-][\d.]+) points", reader.said)
    assert found is not None and float(found.group(1)) > 50, reader.said
