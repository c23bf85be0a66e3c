"""`lmprog init`: a program that is checked, run and reviewed without a change."""

from __future__ import annotations

import json
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from lmprog.cli.init import FILES

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "lmprog" / "starter"


@pytest.fixture
def desk(cli, tmp_path: Path) -> Path:
    assert cli("init", tmp_path / "new" / "desk")[0] == 0
    return tmp_path / "new" / "desk"


def test_what_is_written(desk: Path) -> None:
    written = {path.relative_to(desk).as_posix() for path in desk.rglob("*") if path.is_file()}
    assert written == set(FILES)
    assert written >= {"desk.yaml", "metrics.py", ".gitignore", ".github/workflows/lmprog.yml"}


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
    (command,) = [
        step["run"] for step in workflow["jobs"]["check"]["steps"] if step.get("run", "").startswith("lmprog ")
    ]
    monkeypatch.chdir(desk)
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


def test_the_wheel_holds_every_file() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["lmprog"]
    for template in FILES.values():
        assert (STARTER / template).is_file()
        assert any(
            fnmatch(f"starter/{template}", pattern) and pattern.count("/") == f"starter/{template}".count("/")
            for pattern in patterns
        )
    there = {path.relative_to(STARTER).as_posix() for path in STARTER.rglob("*") if "__pycache__" not in path.parts}
    assert {name for name in there if (STARTER / name).is_file()} == set(FILES.values())
