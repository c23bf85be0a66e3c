"""MLflow and Weights & Biases themselves: an optimization is a run of theirs, with figures, overlay and report.

MLflow lives in the environment that LMPROG_VIEWERS names (tests/functional/test_viewers.py); its packages come after those of
the tests. W&B writes offline.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmprog.extras import is_installed
from tests.functional.test_viewers import binary

pytestmark = pytest.mark.slow

SPEC = """
    lmprog: 1
    name: parity
    inputs: {number: int}
    outputs: {parity: "${{ steps.judge.parity }}"}
    lms: {lm: {model: openai/none}}
    modules:
      judge: {inputs: {number: int}, outputs: {parity: {enum: [odd, even]}}, instructions: Guess.}
    data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}
    metrics: {right: {python: "./metrics.py:same", with: {found: "${{ outputs.parity }}", wanted: "${{ row.parity }}"}}}
    optimize:
      metric: right
      accept: point
      tune: {judge: [demos]}
      stages: [bootstrap: {sets: 2}]
      report_to: [TRACKER]
    """
SCRIPT = """
    import sys
    sys.path += sys.argv[1:]  # after our own, whose pins differ
    import lmprog

    class Parity:
        async def complete(self, request):
            number = int(str(request.messages[-1]["content"]))
            return lmprog.Completion(("even", "odd")[number % 2] if number % 3 else "odd")

    print(lmprog.optimize("parity.yaml", run_dir="run", lms={"lm": Parity()}).report["stages"][0]["validate"]["mean"])
    """


def optimized(write, tmp_path: Path, tracker: str, *more: str, **environment: str) -> float:
    """Run the optimization in a process of its own, and return the score on dev."""
    write(SPEC.replace("TRACKER", tracker), "parity.yaml")
    write("def same(found: str, wanted: str) -> bool:\n    return found == wanted\n", "metrics.py")
    for first, name in enumerate(("train", "dev", "test")):
        rows = [{"number": n, "parity": ("even", "odd")[n % 2]} for n in range(first * 20, first * 20 + 20)]
        write("".join(json.dumps(row) + "\n" for row in rows), f"{name}.jsonl")
    ran = subprocess.run(
        [sys.executable, write(SCRIPT, "script.py"), *more],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode == 0 and "reported to" not in ran.stderr, ran.stderr
    return float(ran.stdout.splitlines()[-1])


def test_mlflow_has_the_run(write, tmp_path) -> None:
    python = Path(binary("mlflow")).with_name("python")
    asked = "import site; print(site.getsitepackages()[0])"
    packages = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    store = f"sqlite:///{tmp_path}/mlflow.db"
    mean = optimized(write, tmp_path, "mlflow", packages, MLFLOW_TRACKING_URI=store, MLFLOW_DISABLE_TELEMETRY="true")
    code = """
import json, mlflow
client = mlflow.MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("parity").experiment_id])
files = {file.path: open(client.download_artifacts(run.info.run_id, file.path)).read()
         for file in client.list_artifacts(run.info.run_id)}
print(json.dumps([run.info.status, run.info.run_name, run.data.params, run.data.metrics, files]))
"""
    read = subprocess.run(
        [python, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": store},
        capture_output=True,
        text=True,
        check=True,
    )
    status, name, params, metrics, files = json.loads(read.stdout.splitlines()[-1])
    assert (status, name) == ("FINISHED", "run")
    assert (params["stages.1"], params["stages.1.sets"], params["lms.lm"]) == ("bootstrap", "2", "openai/none")
    assert metrics["1-bootstrap/validate/mean"] == mean and metrics["run/spent/lm_calls"] > 0
    assert (
        files.keys() == {"parity.tuned.yaml", "report.json"} and "extends: ./parity.yaml" in files["parity.tuned.yaml"]
    )
    assert json.loads(files["report.json"])["stages"][0]["validate"]["mean"] == mean


@pytest.mark.skipif(not is_installed("wandb"), reason="needs wandb, which the extra 'dev' brings")
def test_wandb_has_the_run_offline(write, tmp_path) -> None:
    mean = optimized(write, tmp_path, "wandb", WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR=str(tmp_path))
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    found = [record for record in records_of(file)]
    figures = {item.key or "/".join(item.nested_key): item.value_json for each in found for item in each.history.item}
    assert json.loads(figures["1-bootstrap/validate/mean"]) == mean
    settings = {
        item.key: json.loads(item.value_json)
        for each in found
        for item in (*each.run.config.update, *each.config.update)
    }
    assert (settings["stages.1"], settings["stages.1.sets"]) == ("bootstrap", "2")
    (kept,) = [each.artifact for each in found if each.HasField("artifact")] or [
        each.request.log_artifact.artifact for each in found if each.request.HasField("log_artifact")
    ]
    assert {entry.path for entry in kept.manifest.contents} == {"parity.tuned.yaml", "report.json"}
    assert [each.exit.exit_code for each in found if each.HasField("exit")] == [0]


def records_of(file: Path) -> list[Any]:
    """Return the records in a file of W&B: protobufs in the log format of LevelDB, after a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, found, whole = file.read_bytes(), 7, [], b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            found.append(wandb_internal_pb2.Record.FromString(whole))
            whole = b""
    return found
