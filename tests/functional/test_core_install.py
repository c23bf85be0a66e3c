"""Every verb where only the core is installed: what it can do without a local model it does; else it names the extra.

In an environment that has the extras their packages are hidden. LMPROG_CORE_PYTHON names the Python of one that has the core
alone, as CI makes it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lmprog.cli.main import lmprog
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


HOSTED = """
lmprog: 1
name: hosted
inputs: {text: str}
outputs: {label: "${{ steps.ask.label }}"}
lms: {m: {model: openai/m, api_base: "${{ env.BASE }}", limits: {tries: 1}}}
modules: {ask: {lm: m, inputs: {text: str}, outputs: {label: {type: {enum: [good, bad]}}}, instructions: Judge.}}
steps: {ask: {module: ask, with: {text: "${{ inputs.text }}"}}}
data: {train: rows.jsonl, dev: rows.jsonl, test: rows.jsonl}
metrics: {right: {value: "1.0 if outputs.label == row.label else 0.0"}}
optimize: {metric: right, train: train, validate: dev, stages: [{prompt_search: {trials: 2}}]}
tests: [{inputs: {text: fine}, expect: {label: good}}]
"""
PROMPTY = """---
name: hello
model: {api: chat, configuration: {type: openai, model: m}}
inputs: {text: {type: string}}
---
user:
{{text}}
"""


@pytest.fixture
def hosted(core, provider):
    """A program whose LM a server stands for."""
    provider.otherwise = "good"
    core.environment |= {"BASE": provider.url, "OPENAI_API_KEY": "sk-none"}
    (core.folder / "p.yaml").write_text(HOSTED)
    (core.folder / "hello.prompty").write_text(PROMPTY)
    rows = [{"text": f"t{number}", "label": "good" if number % 2 else "bad"} for number in range(6)]
    (core.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return core


HOSTED_VERBS = [
    ("run", "p.yaml", "--input", "text=x", "--trace", "t.jsonl"),
    ("eval", "p.yaml"),
    ("optimize", "p.yaml", "--run-dir", "made-run"),
    ("credit", "p.yaml", "--split", "dev"),
    ("test", "p.yaml"),
    ("trace", "t.jsonl"),
    ("candidates", "made-run"),
    ("view", "made-run", "--export", "page.html"),
    ("diff", "p.yaml", "p.tuned.yaml"),
    ("import", "prompty", "hello.prompty", "-o", "imported"),
]
"""In an order in which each finds what it reads."""
FREE_VERBS = [
    ("check", str(SPEC)),
    ("render", str(SPEC), "--row", "0"),
    ("run", str(SPEC), "--input", "text=hi", "--fake"),
    ("optimize", str(SPEC), "--dry-run"),
    ("compile", str(SPEC), "-o", "target"),
    ("graph", str(SPEC)),
    ("explain", "LMP203"),
    ("init", "made"),
    ("schema",),
]


def test_every_verb_is_tried() -> None:
    tried = {verb[0] for verb in (*HOSTED_VERBS, *FREE_VERBS)} | {"serve", "export"}
    assert tried == set(lmprog.list_commands(click.Context(lmprog)))


def test_all_verbs_run_with_an_lm_behind_an_address(hosted) -> None:
    for verb in HOSTED_VERBS:
        done = hosted(*verb)
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr


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

    lmprog.folder, lmprog.environment = folder, environment
    return lmprog


@pytest.mark.parametrize("verb", FREE_VERBS, ids=lambda verb: verb[0])
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


def test_export_says_that_there_is_nothing_to_merge_or_names_the_extra(core) -> None:
    done = core("export", str(SPEC), "--merged", "merged")
    assert done.returncode == 2
    assert "nothing to merge" in done.stderr and "Traceback" not in done.stderr
