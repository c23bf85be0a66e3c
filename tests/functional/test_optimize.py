"""`lmprog optimize` as a user runs it, end to end on the embedded model."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

pytestmark = pytest.mark.model

ROOT = Path(__file__).resolve().parents[2]
LMPROG = str(Path(sys.executable).with_name("lmprog"))


def lmprog(*arguments: object, cwd: Path = ROOT, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([LMPROG, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == status, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with specs/ as they stand, optimized in full by the command of the README."""
    folder = tmp_path_factory.mktemp("quickstart")
    shutil.copytree(ROOT / "specs", folder / "specs", ignore=shutil.ignore_patterns("*.tuned.yaml"))
    done = lmprog("optimize", "specs/quickstart.yaml", "--format", "json", cwd=folder)
    (folder / "report.json").write_text(done.stdout)
    (folder / "progress.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def report(quickstart: Path) -> dict:
    return json.loads((quickstart / "report.json").read_text())


def test_prompt_search_then_weights_gain_what_the_readme_says(report: dict) -> None:
    test = report["test"]
    assert (test["metric"], test["n"]) == ("accuracy", 120)
    assert test["before"]["mean"] < 0.1
    assert test["difference"]["mean"] >= 0.5
    assert test["difference"]["ci95"][0] > 0.3
    assert test["difference"]["p"] < 1e-6
    search, replies, weights = report["stages"]
    assert [stage["stage"] for stage in report["stages"]] == ["prompt_search", "sft", "grpo"]
    assert 0.1 < search["test"]["mean"] < replies["test"]["mean"] < weights["test"]["mean"] == test["after"]["mean"]
    assert "steps" not in search
    assert weights["steps"] == 40 and weights["step_seconds"] > 0
    assert report["spent"]["lm_calls"] == sum(stage["lm_calls"] for stage in report["stages"])


def test_the_calls_stay_below_what_the_dry_run_says(quickstart: Path, report: dict) -> None:
    bounds = json.loads(
        lmprog("optimize", "specs/quickstart.yaml", "--dry-run", "--format", "json", cwd=quickstart).stdout
    )
    for stage in report["stages"]:
        assert 0 < stage["lm_calls"] <= bounds["most_lm_calls"][stage["stage"]]


def test_the_overlay_loads_runs_and_reproduces_its_dev_and_test_scores(quickstart: Path, report: dict) -> None:
    overlay = quickstart / "specs" / "quickstart.tuned.yaml"
    assert "extends: ./quickstart.yaml" in overlay.read_text()
    lmprog("check", overlay)
    answer = json.loads(lmprog("run", overlay, "--input", "text=I forgot my password, help").stdout)
    assert answer["label"] in (ROOT / "specs/quickstart/labels.txt").read_text().split()
    dev = json.loads(lmprog("eval", overlay, "--split", "dev", "--format", "json").stdout)
    accepted = report["accepted"]
    (test,) = accepted["tests"]
    rows = accepted["choose"], accepted["confirm"]
    means = report["stages"][-1]["validate"]["mean"], test["after"]["mean"]
    assert rows == (48, 48) and accepted["kept"] == 3 and test["passed"]
    # A reply may depend on its company in a batch.
    assert dev["mean"] == pytest.approx(
        sum(count * mean for count, mean in zip(rows, means, strict=True)) / 96, abs=0.03
    )
    compared = json.loads(
        lmprog("eval", overlay, "--against", quickstart / "specs/quickstart.yaml", "--format", "json").stdout
    )
    assert compared["mean"] == report["test"]["after"]["mean"]
    assert compared["difference"]["mean"] == pytest.approx(report["test"]["difference"]["mean"])


def test_a_changed_adapter_is_refused(quickstart: Path) -> None:
    overlay = quickstart / "specs" / "quickstart.tuned.yaml"
    changed = quickstart / "specs" / "changed.tuned.yaml"
    lines = overlay.read_text().splitlines()
    changed.write_text("\n".join("      sha256: " + "f" * 64 if "  sha256:" in line else line for line in lines))
    done = lmprog("run", changed, "--input", "text=hello", status=1)
    assert "LMP704" in done.stderr or "sha256 differs" in done.stderr


def test_progress_names_stages_scores_and_the_sealed_test(quickstart: Path) -> None:
    shown = (quickstart / "progress.txt").read_text()
    for part in (
        "stage 1 of 3: prompt_search",
        "stage 2 of 3: sft",
        "stage 3 of 3: grpo",
        "dev at step 40",
        "the program after grpo on 120 sealed test rows",
    ):
        assert part in shown


def spent_in(folder: Path) -> dict:
    spent = json.loads((folder / "report.json").read_text())["spent"]
    return {name: value for name, value in spent.items() if name != "seconds"}


SMALL = (
    "--set",
    "optimize.stages=[{prompt_search: {trials: 3, demos: [8], bootstrap_rows: 0}},"
    " {grpo: {steps: 4, examples: 2, rollouts: 4}}]",
)


def test_ctrl_c_in_mid_run_ends_cleanly_and_resume_goes_on(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    command = ["optimize", "specs/quickstart.yaml", "--run-dir", "run", *SMALL]
    running = subprocess.Popen([LMPROG, *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    seen = ""
    while "step 1/4" not in seen:
        line = running.stderr.readline()
        assert line, seen
        seen += line
    running.send_signal(signal.SIGINT)
    rest = running.stderr.read()
    assert running.wait() == 130
    assert "Traceback" not in seen + rest
    assert "interrupted" in rest and "--resume" in rest
    assert not (tmp_path / "specs" / "quickstart.tuned.yaml").exists()

    again = lmprog(*command, cwd=tmp_path, status=2)
    assert "add --resume" in again.stderr
    done = lmprog(*command, "--resume", cwd=tmp_path)
    assert "prompt_search was finished before; kept" in done.stderr
    assert (tmp_path / "specs" / "quickstart.tuned.yaml").exists()
    other = lmprog(*command, "--resume", "--seed", 7, cwd=tmp_path, status=2)
    assert "another seed" in other.stderr
    # What is finished is not done again: resuming a finished run asks no LM.
    journal = tmp_path / "run" / "journal.jsonl"
    before, spent = len(journal.read_text().splitlines()), spent_in(tmp_path / "run")
    lmprog(*command, "--resume", cwd=tmp_path)
    events = [json.loads(line)["event"] for line in journal.read_text().splitlines()[before:]]
    assert not {"step", "dev", "trial", "stage_started"} & {*events}
    assert spent_in(tmp_path / "run") == spent


def test_a_spent_budget_ends_the_search_with_its_best_so_far(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    done = lmprog(
        *(
            "optimize",
            "specs/quickstart.yaml",
            "--run-dir",
            "run",
            "--format",
            "json",
            "--budget",
            "lm_calls=150",
            *SMALL,
        ),
        cwd=tmp_path,
    )
    report = json.loads(done.stdout)
    assert report["spent"]["lm_calls"] <= 150
    assert "budget of 150 lm calls is spent" in done.stderr


def test_the_same_seed_gives_the_same_overlay(tmp_path: Path) -> None:
    written = []
    for run in ("a", "b"):
        shutil.copytree(ROOT / "specs", tmp_path / run / "specs")
        lmprog("optimize", "specs/quickstart.yaml", "--run-dir", "run", "--seed", 3, *SMALL, cwd=tmp_path / run)
        overlay = (tmp_path / run / "specs" / "quickstart.tuned.yaml").read_text()
        journal = [json.loads(line) for line in (tmp_path / run / "run" / "journal.jsonl").read_text().splitlines()]
        steps = [(event["loss"], event["reward"], event["grad_norm"]) for event in journal if event["event"] == "step"]
        written.append((overlay, steps))
    assert written[0] == written[1]
    assert len(written[0][1]) == 4
