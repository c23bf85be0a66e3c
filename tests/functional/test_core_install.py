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

pytestmark = pytest.mark.slow

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
optimize: {metric: right, train: train, validate: dev, stages: [{bootstrap: {sets: 2}}]}
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
    ("feedback", "t.jsonl", "0", "--score", "1"),
    ("rows", "t.jsonl", "--with-feedback", "-o", "of_use.jsonl"),
    ("view", "t.jsonl", "--export", "trace.html"),
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
    ("doctor",),
    ("graph", str(SPEC)),
    ("explain", "LMP203"),
    ("init", "made"),
    ("schema",),
]


@pytest.mark.skipif("LMPROG_CORE_PYTHON" not in os.environ, reason="needs an environment with the core alone")
def test_the_core_takes_less_than_60_mb() -> None:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([os.environ["LMPROG_CORE_PYTHON"], "-c", code], capture_output=True, text=True, check=True)
    size = {
        part: sum(file.stat().st_size for file in part.rglob("*") if file.is_file()) if part.is_dir() else 0
        for part in Path(done.stdout.strip()).iterdir()
        if not part.name.startswith(("pip", "setuptools", "pkg_resources", "_distutils_hack"))  # what `venv` brings
    }
    largest = sorted(size, key=size.__getitem__, reverse=True)[:5]
    assert sum(size.values()) < 60e6, [f"{part.name} {size[part] / 1e6:.1f} MB" for part in largest]
    assert not {part.name for part in size} & EXTRA_OF.keys()


def test_every_verb_is_tried() -> None:
    tried = {verb[0] for verb in (*HOSTED_VERBS, *FREE_VERBS)} | {"serve", "dev", "export", "lsp", "push", "tools"}
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

    def lmprog(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [python or sys.executable, "-c", "from lmprog.cli.main import main; main()", *map(str, arguments)]
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


def test_lsp_names_its_extra(core) -> None:
    done = core("lsp")
    assert done.returncode == 2 and done.stdout == ""
    assert "pip install 'lmprog[lsp]'" in done.stderr and "Traceback" not in done.stderr


def test_serve_names_its_extra(core) -> None:
    done = core("serve", str(SPEC), "--fake", "--port", "0")
    assert done.returncode == 2
    assert "pip install 'lmprog[serve]'" in done.stderr and "Traceback" not in done.stderr


def test_export_says_that_there_is_nothing_to_merge_or_names_the_extra(core) -> None:
    done = core("export", str(SPEC), "--merged", "merged")
    assert done.returncode == 2
    assert "nothing to merge" in done.stderr and "Traceback" not in done.stderr


def test_push_says_that_there_is_no_adapter_or_names_the_extra(core) -> None:
    done = core("push", str(SPEC), "hf://acme/desk")
    assert done.returncode == 2
    assert "has no adapter to push" in done.stderr and "Traceback" not in done.stderr


def test_prompts_are_exported(core) -> None:
    assert "def classify(" in one(core("export", str(SPEC), "--python")).stdout


def test_graded_scores_have_their_intervals(core, provider) -> None:
    provider.answer = lambda body: "yes" if "sky" in str(body["messages"]) else "no"
    spec = written(core, api_base=f'api_base: "{provider.url}", api_key: none, trusted: true')
    trace = core.folder / "trace.jsonl"
    assert json.loads(one(core("run", spec, "--input", "text=the sky", "--trace", trace)).stdout) == {"answer": "yes"}
    assert "1 LM call" in one(core("trace", trace)).stdout
    assert "1 test" in (done := one(core("test", spec))).stdout + done.stderr
    found = json.loads(one(core("eval", spec, "--metric", "graded", "--against", spec, "--format", "json")).stdout)
    low, high = found["ci95"]
    assert low < found["mean"] == 0.6 < high
    assert found["difference"]["p"] == 1.0


@pytest.mark.parametrize(
    ("verb", "model", "stage", "extra"),
    [
        (("run", "--input", "text=a"), "anthropic/claude-haiku-4-5", "prompt_search", "providers"),
        (("optimize", "--run-dir", "searched"), "openai/x", "prompt_search", "optimize"),
        (("optimize", "--run-dir", "reflected"), "openai/x", "gepa: {}", "optimize"),
    ],
)
def test_the_extra_is_named_before_anything_is_paid(core, verb, model, stage, extra) -> None:
    done = core(verb[0], written(core, model=model, stage=stage, api_base="api_key: none"), *verb[1:])
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].endswith(f"pip install 'lmprog[{extra}]'"), done.stderr
    assert "Traceback" not in done.stderr


def test_a_search_tool_names_its_extra(core) -> None:
    (core.folder / "pages.jsonl").write_text('{"title": "a", "text": "b"}\n')
    spec = core.folder / "search.yaml"
    spec.write_text(SEARCH)
    done = core("run", str(spec), "--input", "text=a")
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().endswith(
        "the tool 'find' needs the extra 'search' (bm25s is missing): pip install 'lmprog[search]'"
    )


def test_the_core_is_small() -> None:
    python = os.environ.get("LMPROG_CORE_PYTHON")
    if python is None:
        pytest.skip("LMPROG_CORE_PYTHON names no environment with the core alone")
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
    own = (
        "pip",
        "setuptools",
        "pkg_resources",
        "_distutils_hack",
        "distutils-precedence",
    )  # what `python -m venv` puts there
    files = [path for path in packages.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files if not path.relative_to(packages).parts[0].startswith(own))
    assert size < 60e6, f"the core takes {size / 1e6:.0f} MB"


def one(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stderr
    return done


def written(core, *, api_base: str, model: str = "openai/x", stage: str = "prompt_search") -> str:
    """Write a program with a model, and give its path."""
    spec = core.folder / "own.yaml"
    (core.folder / "rows.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ("the sky", "a", "b"))
    )
    (core.folder / "scores.py").write_text(
        "def graded(answer: str) -> float:\n    return {'yes': 1.0, 'no': 0.4}[answer]\n"
    )
    spec.write_text(OWN.replace("MODEL", model).replace("BASE", api_base).replace("STAGE", stage))
    return str(spec)


OWN = """\
lmprog: 1
name: own
inputs: {text: str}
lms: {lm: {model: MODEL, BASE, cache: false}}
modules:
  ask: {inputs: {text: str}, outputs: {answer: {enum: ["yes", "no"]}}, instructions: Is it blue?}
data: {train: rows.jsonl, dev: rows.jsonl, test: rows.jsonl}
metrics:
  graded: {python: "./scores.py:graded", with: {answer: "${{ outputs.answer }}"}}
tests:
  sky: {inputs: {text: the sky}, expect: {answer: "yes"}}
optimize:
  metric: graded
  train: train
  validate: dev
  proposer: lm
  tune: {ask: [instructions]}
  stages: [STAGE]
"""
SEARCH = """\
lmprog: 1
name: searching
inputs: {text: str}
outputs: {found: "${{ steps.find.result }}"}
tools:
  find: {search: {corpus: pages.jsonl, text: [text], key: title}}
steps:
  find: {tool: find, with: {query: "${{ inputs.text }}"}}
"""
