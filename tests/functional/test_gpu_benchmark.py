"""benchmarks/gpu.py in its small form, on a CPU and a model of random weights: each part gives its figures."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'train'")
pytest.importorskip("bm25s", reason="needs the extra 'search'")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu  # noqa: E402

LONG = ("step/search/stock", "engine/long")
"""Parts that take a minute on a busy CPU, and are made by the same functions as the others."""
pytestmark = pytest.mark.model


@pytest.fixture
def data(write: Callable[..., Path], tmp_path: Path) -> Path:
    intents = [{"text": f"intent {number % 8} again {number}", "intent": f"kind_{number % 8}"} for number in range(32)]
    pages = [{"title": f"page {number}", "text": f"words of page {number}"} for number in range(40)]
    questions = [{"question": f"page {number} and?", "titles": [f"page {number}", "page 1"]} for number in range(12)]
    files = {"banking77/train": intents, "multihop/corpus": pages}
    for name, rows in {**files, **{f"multihop/{split}": questions for split in ("train", "dev", "test")}}.items():
        write("".join(json.dumps(row) + "\n" for row in rows), f"data/{name}.jsonl")
    return tmp_path / "data"


def test_each_part_gives_its_figures(data, tiny_model, tmp_path, monkeypatch, capsys) -> None:
    def in_this_process(command: Sequence[str], seconds: float) -> Any:
        """Stand for a process of its own, which would import torch once more."""
        script, *given = command
        assert seconds > 0
        monkeypatch.setattr(sys, "argv", [script, *given])
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    all_parts = gpu.parts
    monkeypatch.setattr(gpu, "parts", lambda options: (each for each in all_parts(options) if each[0] not in LONG))
    monkeypatch.setattr(gpu, "run", in_this_process)
    given = ["--data", str(data), "--out", str(tmp_path / "out"), "--model", f"hf/{tiny_model()}", "--small"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *given])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert ended.value.code == 0 and found["left_out"] == {}
    assert set(found["parts"]) == {"step/few-shot/ours", "step/few-shot/stock", "engine/few-shot", "step/search/ours"}
    assert shown.count("ratio") == 1 and shown.count("times transformers.generate") == 1


def test_a_part_that_fails_or_takes_too_long_is_named_and_the_others_go_on(data, tmp_path, monkeypatch, capsys) -> None:
    def run(command: Sequence[str], seconds: float) -> Any:
        if "search" in command:
            raise subprocess.CalledProcessError(1, list(command), stderr="Traceback\nCUDA out of memory")
        if "long" in command:
            raise subprocess.TimeoutExpired(list(command), seconds)
        return {"seconds": [1.0], "splits": [{"rollout": 1.0}], "peak_mb": 5} if "--side" in command else ENGINE

    monkeypatch.setattr(gpu, "run", run)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--data", str(data), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    shown = capsys.readouterr().out
    assert ended.value.code == 1 and "left out: step/search/ours (CUDA out of memory)" in shown
    assert "left out: engine/long (it" not in shown and shown.count("left out") == 3


ENGINE = {"ratio": 20.0, "rows_per_second": 100.0, "tokens_per_second": 800.0, "differ": 0, "ties": 0}
