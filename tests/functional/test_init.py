"""`lmprog init`: a program of any kind that is checked, run and tested without a change."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmprog.starter.kinds import KINDS, LEFT_OUT

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "lmprog" / "starter"
FILES = {
    "desk.yaml",
    "topics.txt",
    "metrics.py",
    "data/train.jsonl",
    "data/dev.jsonl",
    "data/test.jsonl",
    ".gitignore",
    ".github/workflows/lmprog.yml",
}
MODELS = {
    "embedded": ["--model", "embedded/smollm2-135m"],
    "api": ["--model", "openai/gpt-4.1-mini"],
    "litellm": ["--model", "anthropic/claude-sonnet-4-5"],
    "server": ["--model", "hosted_vllm/Qwen/Qwen3-4B", "--api-base", "http://localhost:8000/v1"],
}


@pytest.fixture
def desk(cli, tmp_path: Path) -> Path:
    assert cli("init", tmp_path / "new" / "desk")[0] == 0
    return tmp_path / "new" / "desk"


def test_what_is_written(desk: Path) -> None:
    written = {path.relative_to(desk).as_posix() for path in desk.rglob("*") if path.is_file()}
    assert written == FILES


def test_it_passes_its_own_check(cli, desk: Path) -> None:
    status, out, err = cli("check", desk / "desk.yaml", "--strict")
    assert (status, out, err) == (0, "", "1 program: no findings\n")
    assert cli("check", desk / "desk.yaml", "--strict", "--no-import")[0] == 0


def test_it_runs_without_a_model(cli, desk: Path) -> None:
    status, out, _ = cli("run", desk / "desk.yaml", "--fake", "--input", "message=Are you open?")
    assert status == 0
    assert json.loads(out) == {"topic": "loans", "answer": "(answer)"}
    status, out, _ = cli("optimize", desk / "desk.yaml", "--dry-run")
    assert status == 0
    assert "LM calls" in out


def test_it_has_rows_of_every_topic_in_every_split_and_a_test(desk: Path) -> None:
    topics = (desk / "topics.txt").read_text().split()
    counts = {}
    for split in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (desk / "data" / f"{split}.jsonl").read_text().splitlines()]
        counts[split] = [sum(row["topic"] == topic for row in rows) for topic in topics]
    assert counts == {"train": [6] * 4, "dev": [3] * 4, "test": [3] * 4}
    assert yaml.safe_load((desk / "desk.yaml").read_text())["tests"]


def test_the_workflow_checks_the_program(cli, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = yaml.safe_load((desk / ".github/workflows/lmprog.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["check"]["steps"] if step.get("run", "").startswith("lmprog ")]
    assert [command.split()[1] for command in commands] == ["check", "test"]
    monkeypatch.chdir(desk)
    for command in commands:
        assert cli(*command.split()[1:])[0] == 0


@pytest.mark.parametrize("name", ["metrics.py", ".gitignore", "data/dev.jsonl"])
def test_nothing_is_overwritten(cli, tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    status, out, err = cli("init", tmp_path)
    assert (status, out) == (2, "")
    assert f"{mine} exists already, so nothing was written" in err
    assert mine.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_the_current_folder_is_the_default(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = cli("init")
    assert status == 0
    assert (tmp_path / "desk.yaml").is_file()
    assert "lmprog check desk.yaml\n" in out


def test_it_says_what_to_do_next(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, out, _ = cli("init", "a")
    assert "lmprog check a/desk.yaml" in out
    assert "GitHub" not in out
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    _, out, _ = cli("init", "repository/inner")
    assert "move repository/inner/.github/workflows/lmprog.yml to " in out
    _, out, _ = cli("init", "repository")
    assert "GitHub" not in out


def test_a_file_is_no_folder(cli, write) -> None:
    assert cli("init", write("x", "file"))[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("ci", ["github", "none"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_combination_passes_check_run_and_test(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, model: str, ci: str
) -> None:
    folder = tmp_path / "new"
    hooks = "--hooks" if ci == "github" else "--no-hooks"
    status, out, _ = cli("init", folder, "--kind", kind, *MODELS[model], "--ci", ci, hooks)
    assert status == 0
    assert (folder / ".github/workflows/lmprog.yml").exists() == (ci == "github")
    assert (folder / ".pre-commit-config.yaml").exists() == (ci == "github")
    monkeypatch.chdir(folder)
    spec = KINDS[kind].spec
    name = MODELS[model][1]
    assert {lm["model"] for lm in yaml.safe_load(Path(spec).read_text())["lms"].values()} == {name}
    assert cli("check", spec, "--strict") == (0, "", "1 program: no findings\n")
    faked = next(line for line in out.splitlines() if " --fake " in line)
    assert cli(*shlex.split(faked, comments=True)[1:])[0] == 0
    status, out, _ = cli("test", spec, "--fake")
    assert (status, out.splitlines()[-1]) == (0, "1 test: 1 ran")
    if ci == "github":
        steps = yaml.safe_load(Path(".github/workflows/lmprog.yml").read_text())["jobs"]["check"]["steps"]
        assert f"lmprog check {spec} --strict --format github" in [step.get("run") for step in steps]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_its_test_passes_with_a_model_that_answers(cli, provider, tmp_path, monkeypatch, kind: str) -> None:
    """A server on this machine stands for the model of an API, and for one's own; it answers with the declared types."""
    provider.answer = made_up
    assert cli("init", tmp_path / "a", "--kind", kind, "--model", "openai/gpt-4.1-mini")[0] == 0
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    status, out, _ = cli("test", tmp_path / "a" / KINDS[kind].spec)
    assert (status, out.splitlines()[-1], bool(provider.requests)) == (0, "1 test: 1 passed", True)
    provider.requests.clear()
    own = ["--model", "hosted_vllm/any", "--api-base", provider.url]
    assert cli("init", tmp_path / "b", "--kind", kind, *own)[0] == 0
    status, out, _ = cli("test", tmp_path / "b" / KINDS[kind].spec)
    assert (status, out.splitlines()[-1], bool(provider.requests)) == (0, "1 test: 1 passed", True)


def made_up(body: dict[str, Any]) -> str:
    """A reply with a value of each output: of the schema that the prompt holds, else the first label, else a text."""
    from lmprog.compiler.types.schema_values import schema_value

    system = body["messages"][0]["content"]
    if "with these fields: " in system:
        fields = json.JSONDecoder().raw_decode(system.split("with these fields: ")[1])[0]
        return json.dumps({name: schema_value(name, schema) for name, schema in fields.items()})
    return str(system.split("one of ")[1].split(",")[0]) if "nothing else: one of " in system else "a text"


@pytest.mark.model
@pytest.mark.parametrize("kind", KINDS)
def test_its_test_passes_with_the_embedded_model(tmp_path: Path, cli, kind: str) -> None:
    assert cli("init", tmp_path / "a", "--kind", kind)[0] == 0
    status, out, err = cli("test", tmp_path / "a" / KINDS[kind].spec)
    assert (status, out.splitlines()[-1]) == (0, "1 test: 1 passed"), out + err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--kind", "rage"], "there is no kind 'rage'; did you mean `rag`?"),
        (["--model", "gpt-4"], "'gpt-4' names no model; write provider/name"),
        (["--model", "embedded/x"], "there is no built-in model 'embedded/x'"),
        (["--model", "openai/a b"], "'openai/a b' names no model"),
        (["--model", "openai/x: y"], "names no model"),
        (["--model", "openai/x", "--api-base", "localhost"], "'localhost' is no address of a server"),
        (
            ["--api-base", "http://localhost:8000/v1"],
            "embedded/smollm2-135m runs in this process, so it has no address",
        ),
        (["--ci", "jenkins"], "'jenkins' is not one of"),
    ],
)
def test_wrong_usage_writes_nothing(cli, tmp_path: Path, more: list[str], said: str) -> None:
    status, out, err = cli("init", tmp_path / "new", *more)
    assert (status, out, (tmp_path / "new").exists()) == (2, "", False)
    assert said in " ".join(err.split())


def test_a_folder_is_not_named_as_a_program(cli, tmp_path: Path) -> None:
    status, out, err = cli("init", tmp_path / "desk.yaml")
    assert (status, out, (tmp_path / "desk.yaml").exists()) == (2, "", False)
    assert f"write lmprog init {tmp_path / 'desk'}" in " ".join(err.split())


def test_files_are_overwritten_when_that_is_asked_for(cli, tmp_path: Path) -> None:
    (tmp_path / "desk.yaml").write_text("mine")
    (tmp_path / "other.txt").write_text("mine")
    status, _, err = cli("init", tmp_path)
    assert status == 2 and "add --overwrite" in " ".join(err.split())
    assert cli("init", tmp_path, "--overwrite")[0] == 0
    assert (tmp_path / "desk.yaml").read_text() != "mine"
    assert (tmp_path / "other.txt").read_text() == "mine"


@pytest.mark.slow
def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    answers = "rage\nrag\nhosted_vllm/any\n\nnone\ny\n"
    out, status = on_a_terminal(["init", str(tmp_path / "new")], answers)
    assert status == 0, out
    assert "Kind of program" in out and "summary    read a long document in parts" in out
    spec = yaml.safe_load((tmp_path / "new" / "rag.yaml").read_text())
    assert spec["lms"]["writer"]["api_base"] == "http://localhost:8000/v1"
    assert (tmp_path / "new" / ".pre-commit-config.yaml").exists() and not (tmp_path / "new" / ".github").exists()
    out, status = on_a_terminal(["init", str(tmp_path / "new"), "--kind", "rag", "--yes"], "")
    assert status == 2 and "Kind of program" not in out
    given = ["--kind", "rag", "--model", "openai/x", "--ci", "none", "--no-hooks"]
    out, status = on_a_terminal(["init", str(tmp_path / "new"), *given], "n\n")
    assert status == 2 and "overwrite them? [y/N]" in " ".join(out.split())
    out, status = on_a_terminal(["init", str(tmp_path / "new"), *given], "y\n")
    assert status == 0 and "openai/x" in (tmp_path / "new" / "rag.yaml").read_text()


def on_a_terminal(arguments: list[str], answers: str) -> tuple[str, int]:
    """Runs a command on a terminal of its own, and types the answers: what the terminal shows, and the exit status."""
    pty = pytest.importorskip("pty", reason="terminals can be made on POSIX alone")
    ours, theirs = pty.openpty()
    code = "from lmprog.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=theirs, stdout=theirs, stderr=theirs
    ) as running:
        os.close(theirs)
        os.write(ours, answers.encode())
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        running.wait()
    os.close(ours)
    return shown.decode(), running.returncode


def test_the_wheel_holds_every_file() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns, left_out = (tools[key]["lmprog.starter"] for key in ("package-data", "exclude-package-data"))

    def packed(name: str) -> bool:
        def fits(pattern: str) -> bool:
            return fnmatch(name, pattern) and pattern.count("/") == name.count("/")

        return any(map(fits, patterns)) and not any(map(fits, left_out))

    there = {f"around/{path.name}" for path in (STARTER / "around").iterdir()}
    for kind in KINDS.values():
        there |= {f"{kind.folder}/{name}" for name in kind.files()}
    assert [name for name in sorted(there) if not packed(name)] == []
    assert [name for name in LEFT_OUT if packed(f"gallery/rag/{name}")] == []
