"""Every verb where only the core is installed: what it can do without a local model it does; else it names the extra.

In an environment that has the extras their packages are hidden. LMPROG_CORE_PYTHON names the Python of one that has the core
alone, as CI makes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmprog.extras import EXTRA_OF

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "specs" / "quickstart.yaml"
EXTRA = "needs the extra 'local' (torch is missing): pip install 'lmprog[local]'"
BLOCK = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        package = name.split(".")[0]
        if package in {sorted(EXTRA_OF)!r}:
            raise ModuleNotFoundError(f"No module named {{package!r}}", name=package)

sys.meta_path.insert(0, Absent())
"""
"""Stands for an environment without the packages of the extras."""


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    folder = tmp_path_factory.mktemp("core")
    python = os.environ.get("LMPROG_CORE_PYTHON")
    environment = {**os.environ, "LMPROG_CACHE": str(folder / "cache")}
    if python is None:
        (folder / "sitecustomize.py").write_text(BLOCK)
        environment["PYTHONPATH"] = str(folder)

    def lmprog(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python or sys.executable, "-c", "from lmprog.cli.main import main; main()", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120)

    return lmprog


@pytest.mark.parametrize(
    "verb",
    [
        ("check", str(SPEC)),
        ("render", str(SPEC), "--row", "0"),
        ("run", str(SPEC), "--input", "text=hi", "--fake"),
        ("optimize", str(SPEC), "--dry-run"),
        ("compile", str(SPEC), "-o", "target"),
        ("graph", str(SPEC)),
        ("explain", "LMP203"),
        ("init", "made"),
        ("schema",),
    ],
    ids=lambda verb: verb[0],
)
def test_what_needs_no_local_model_runs(core, verb) -> None:
    done = core(*verb)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "verb",
    [
        ("run", str(SPEC), "--input", "text=hi"),
        ("eval", str(SPEC)),
        ("optimize", str(SPEC), "--run-dir", "run"),
        ("credit", str(SPEC)),
    ],
    ids=lambda verb: verb[0],
)
def test_what_needs_one_names_the_extra_in_one_line(core, verb) -> None:
    done = core(*verb)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert f"'embedded/smollm2-135m' runs in this process, which {EXTRA}" in done.stderr


def test_serve_names_its_extra(core) -> None:
    done = core("serve", str(SPEC), "--fake", "--port", "0")
    assert done.returncode == 2
    assert "pip install 'lmprog[serve]'" in done.stderr and "Traceback" not in done.stderr
