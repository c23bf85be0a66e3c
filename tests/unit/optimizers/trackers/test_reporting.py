"""`optimize.report_to`: what trackers get of every stage, and what a tracker that fails costs (nothing)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog import extras
from lmprog.errors import UsageError
from lmprog.extras import require
from lmprog.optimizers.trackers import reporting as module
from lmprog.optimizers.trackers import tracker as trackers
from lmprog.optimizers.trackers.reporting import Reporting, reporting
from tests.unit.optimizers.staged.test_staged import Watched

STAGE = "  stages:\n    - prompt_search: {trials: 6, bootstrap_rows: 4, demos: [2], demo_sets: 2}\n"


class Notebook:
    """A tracker that remembers, in place of a service."""

    made: Any = None
    failing = ""

    def __init__(self) -> None:
        type(self).made = self
        self.said: list[tuple[Any, ...]] = []
        self._maybe_fail("__init__")

    def begin(self, program: str, name: str, params: Any, kept: str | None) -> str:
        self._maybe_fail("begin")
        self.said.append(("begin", program, name, params, kept))
        return kept or "id-1"

    def log(self, stage: str, figures: Any, step: int) -> None:
        self._maybe_fail("log")
        self.said.append(("log", stage, figures, step))

    def keep(self, files: Any) -> None:
        self.said.append(("keep", [file.name for file in files]))

    def end(self, succeeded: bool) -> None:
        self.said.append(("end", succeeded))

    def _maybe_fail(self, where: str) -> None:
        if self.failing == where:
            raise ConnectionError("no server\nmore")


@pytest.fixture
def notebook(monkeypatch) -> type[Notebook]:
    monkeypatch.setitem(trackers.HOMES, "mlflow", f"{__name__}:Notebook")
    monkeypatch.setattr(trackers, "import_module", lambda name: sys.modules[__name__])
    monkeypatch.setattr(trackers, "require", lambda names, user: None)
    monkeypatch.setattr(Notebook, "failing", "")
    return Notebook


def optimized(write_spec, folder: Path, **how: Any) -> Any:
    spec = write_spec((STAGE, STAGE + "  report_to: [mlflow]\n"))
    lm = Watched()
    return lmprog.optimize(spec, lms={"judge": lm, "writer": lm}, run_dir=folder, out=folder / "out.yaml", **how)


def test_a_tracker_gets_settings_figures_and_files(write_spec, notebook, tmp_path) -> None:
    tuned = optimized(write_spec, tmp_path / "run")
    said = notebook.made.said
    _, program, name, params, kept = said[0]
    assert (program, name, kept) == ("parity", "run", None)
    assert (params["stages.1"], params["stages.1.trials"], params["seed"]) == ("prompt_search", "6", 0)
    logged = [each for each in said if each[0] == "log"]
    assert {stage for _, stage, _, _ in logged} == {"1-prompt_search", "run"}
    trials = [(step, figures) for _, _, figures, step in logged if "best/mean" in figures]
    assert [step for step, _ in trials] == list(range(len(trials))) and len(trials) > 2
    ended = next(figures for _, _, figures, _ in logged if "validate/mean" in figures)
    assert ended["validate/mean"] == tuned.report["stages"][0]["validate"]["mean"]
    assert ended["validate/low"] <= ended["validate/mean"] <= ended["validate/high"]
    last = logged[-1][2]
    assert last["test/after/mean"] == tuned.report["test"]["after"]["mean"] and last["spent/lm_calls"] > 0
    assert said[-2:] == [("keep", ["out.yaml", "report.json"]), ("end", True)]


def test_a_resumed_run_goes_on_in_the_same_run_of_the_tracker(write_spec, notebook, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "run"
    optimized(write_spec, folder)
    optimized(write_spec, folder, resume=True)
    assert notebook.made.said[0][-1] == "id-1"
    assert json.loads((folder / "trackers.json").read_text()) == {"mlflow": "id-1"}


def test_a_tracker_that_fails_is_told_once_and_ends_nothing(write_spec, notebook, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(Notebook, "failing", "log")
    assert optimized(write_spec, tmp_path / "run").report["stages"]
    err = capfd.readouterr().err
    assert err == "lmprog: nothing more is reported to mlflow (ConnectionError: no server); the optimization goes on\n"


def test_a_tracker_that_cannot_begin_is_refused_before_anything_is_asked(
    write_spec, notebook, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(Notebook, "failing", "begin")
    with pytest.raises(UsageError, match="mlflow takes no reports: ConnectionError: no server; start it"):
        optimized(write_spec, tmp_path / "run")
    monkeypatch.setattr(Notebook, "failing", "__init__")  # as MLflow's client, for an address that it cannot read
    with pytest.raises(UsageError, match="mlflow takes no reports: ConnectionError: no server; start it"):
        optimized(write_spec, tmp_path / "none")
    monkeypatch.setattr(trackers, "require", require)
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "mlflow")
    with pytest.raises(UsageError, match=r"needs the extra 'mlflow' .*pip install 'lmprog\[mlflow\]'"):
        optimized(write_spec, tmp_path / "other")


def test_a_run_that_fails_ends_as_failed(parity, notebook, tmp_path) -> None:
    program, _ = parity()
    with pytest.raises(ZeroDivisionError), reporting(["mlflow"], program.plan, 0, tmp_path, False):
        raise ZeroDivisionError
    assert notebook.made.said[-1] == ("end", False)


@pytest.mark.parametrize(
    ("event", "stage", "figures", "step"),
    [
        (
            {
                "event": "step",
                "step": 3,
                "loss": 0.5,
                "modules": {"plan": {"reward": 1}},
                "kept": True,
                "nan": float("nan"),
            },
            "2-grpo",
            {"loss": 0.5, "modules/plan/reward": 1.0},
            3,
        ),
        (
            {"event": "dev", "step": 4, "score": {"mean": 0.5, "ci95": [0.25, 0.75]}},
            "2-grpo",
            {"dev/score/mean": 0.5, "dev/score/low": 0.25, "dev/score/high": 0.75},
            4,
        ),
        ({"event": "spending", "spent": {"usd": 2}, "limits": {"usd": 5}}, "2-grpo", {"spent/usd": 2.0}, 1),
    ],
)
def test_figures_of_an_event(event, stage, figures, step) -> None:
    notebook = Notebook()
    listener = Reporting({"mlflow": notebook})
    listener({"event": "stage_started", "number": 2, "of": 2, "name": "grpo"})
    listener({"event": "note", "text": "a"})
    listener(event)
    listener.end(True)
    assert notebook.said == [("log", stage, figures, step), ("end", True)]


@pytest.mark.parametrize(("private", "files"), [(False, ["o.yaml", "report.json"]), (True, ["report.json"])])
def test_the_overlay_of_a_private_program_stays_here(private, files, tmp_path, capfd) -> None:
    notebook = Notebook()
    listener = Reporting({"mlflow": notebook}, private)
    report = {"test": None, "before": {"mean": 0.5}, "spent": {}}
    listener.finish(report, tmp_path / "o.yaml", tmp_path / "report.json")
    listener.end(True)
    assert notebook.said == [("log", "run", {"before_dev/mean": 0.5}, 0), ("keep", files), ("end", True)]
    assert ("o.yaml is not sent to mlflow: the program has private values" in capfd.readouterr().err) is private


def test_a_tracker_of_another_name_is_a_finding(write_spec) -> None:
    with pytest.raises(lmprog.SpecError, match="wandb"):
        lmprog.load(write_spec((STAGE, STAGE + "  report_to: [wandbb]\n")))


@pytest.mark.slow
def test_trackers_are_imported_where_one_is_used() -> None:
    code = (
        "import sys, lmprog.optimizers.run, lmprog.optimizers.trackers.reporting; "
        "print({'mlflow', 'wandb'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_where_one_tracker_cannot_begin_the_run_of_another_is_ended(
    write_spec, notebook, monkeypatch, tmp_path
) -> None:
    plan = lmprog.load(write_spec()).plan

    class Down(Notebook):
        def begin(self, program: str, name: str, params: Any, kept: str | None) -> str:
            raise ConnectionError("no server")

    up, down = Notebook(), Down()
    monkeypatch.setattr(module, "tracker", {"mlflow": up, "wandb": down}.__getitem__)
    with (
        pytest.raises(UsageError, match="wandb takes no reports"),
        reporting(["mlflow", "wandb"], plan, 0, tmp_path, False),
    ):
        pass
    assert [said[0] for said in up.said] == ["begin", "end"] and up.said[-1] == ("end", False)
    assert down.said == []


def test_a_trackers_message_shows_no_secret_of_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:hush%2Fhush@tracker.example/x?key=k-12345")
    monkeypatch.setenv("WANDB_API_KEY", "w-secret-1")
    url = "https://ann:hush%2Fhush@tracker.example/x?key=k-12345"
    said = module._said(ConnectionError(f"request to {url} failed: hush/hush, w-secret-1\nmore"))
    hidden = "request to https://ann:[secret]@tracker.example/x?key=[secret] failed: [secret], [secret]"
    assert said == f"ConnectionError: {hidden}"
    assert module._said(ConnectionError()) == module._said(ConnectionError("\n")) == "ConnectionError"
