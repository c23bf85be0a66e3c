"""Every code block of the README and of docs/ is run or checked, page by page, in a folder with the files that the page shows.

A block with `title="name"`, or whose first line is `# name.ext`, is a file. A YAML block that begins with `lmprog:` is a
program, and passes the check. One with keys of the top level is laid over the page's last program, or that of
tests/docs_frame/, and passes too. Python runs with made-up replies. Bash runs as it stands, and a block of text after it is
what it prints. What cannot be run stands in CANNOT_RUN with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lmprog.compiler.language import PROGRAM

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "docs/cli.md": "shows --help alone; test_cli_page.py compares it",
    "docs/loop.md": "test_loop.py goes through it with a server and a stand-in of the provider",
    "docs/extending.md": "test_extending.py builds and runs its package",
    "docs/gallery": "is made from specs/gallery, which test_gallery.py checks and replays",
    "docs/checks": "shows what a finding refuses; tests/specs/bad has whole programs",
}
"""Pages that another test takes care of."""
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
GENERATED = re.compile(r"<!-- (?:keys|options) of .*?<!-- end of keys -->", re.DOTALL)
NAMED = re.compile(r"# ([\w./-]+\.\w+)\n")
CANNOT_RUN = {
    # By page and the beginning of the block.
    ("README.md", "python3 -m venv"): "sets up an environment; CI runs both commands as they stand there",
    ("README.md", ".venv/bin/lmprog run specs/quickstart.tuned.yaml"): "needs what the first command makes in minutes",
    ("README.md", "OPENAI_API_KEY="): "needs a key",
    ("README.md", ".venv/bin/lmprog serve"): "serves until it is stopped; test_serve.py asks it",
    ("docs/credit.md", "lmprog credit"): "asks models for minutes; test_credit.py does",
    ("docs/dev.md", "lmprog dev"): "serves until it is stopped; test_dev.py asks it",
    ("docs/notebooks.md", "pytest --lmprog"): "records with pytest; test_pytest_plugin.py does",
    ("docs/scale.md", "pip install"): "installs from the package index",
    ("docs/scale.md", "python benchmarks/cost.py"): "is a script of this repository; test_scale_benchmark.py runs it",
    ("docs/scale.md", "lmprog eval sort.yaml --on ray"): "wants a cluster and models; test_ray.py has both",
    ("docs/scale.md", "import lmprog"): "wants models; test_ray.py runs on three nodes",
    ("docs/editors.md", "pip install"): "installs from the package index",
    ("docs/editors.md", "cd editors/vscode"): "fetches packages of npm; CI builds the extension",
    ("docs/serve.md", "lmprog serve"): "serves until it is stopped; test_serve.py asks it",
    ("docs/serve.md", "curl localhost:8000/runs"): "asks that server; test_feedback.py does",
    ("docs/serve.md", "from openai import OpenAI"): "asks that server",
    ("docs/traces.md", "OTEL_EXPORTER"): "wants a collector; test_collector.py has one",
    ("docs/view.md", "lmprog view"): "needs a run; test_view.py makes one and opens its page",
    ("docs/view.md", "lmprog view trace"): "serves until it is stopped; test_view_trace.py asks it",
    ("docs/view.md", "lmprog eval"): "asks models; test_view.py has a shorter one",
    ("docs/view.md", "lmprog optimize"): "trains for minutes; test_view.py has a shorter one",
    ("docs/tutorial.md", "python3 -m venv"): "installs from the package index",
    ("docs/tutorial.md", "OPENAI_API_KEY="): "needs a key",
    ("docs/howto/rag.md", "lmprog run rag.yaml --input"): "needs a key",
    ("docs/howto/agents.md", "lmprog run desk.yaml --input"): "needs a key",
    ("docs/howto/gpu.md", "lmprog optimize train.yaml --run-dir"): "loads a model of 8 billion parameters",
    (
        "docs/howto/gpu.md",
        "torchrun",
    ): "loads a model of 8 billion parameters; test_several_processes.py trains a small one",
    ("docs/scale.md", "for card in"): "needs eight cards and vLLM",
    (
        "docs/scale.md",
        "torchrun",
    ): "loads a model of 8 billion parameters; test_several_processes.py trains a small one",
    ("docs/howto/hub.md", "lmprog push"): "needs what training makes; test_push.py pushes to a stand-in of the Hub",
    ("docs/howto/gpu.md", "lmprog export"): "needs what training makes; test_training.py merges one",
}


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    title: str
    text: str

    @property
    def file(self) -> str:
        return self.title or (match[1] if (match := NAMED.match(self.text)) else "")

    def begins(self) -> str:
        return self.text.lstrip().splitlines()[0] if self.text.strip() else ""


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order, without those that are made from the grammar."""
    text = GENERATED.sub("", page.read_text(encoding="utf-8"))
    name = page.relative_to(ROOT).as_posix()
    return [Block(name, language, title, body) for language, title, body in FENCE.findall(text)]


def taken_elsewhere(page: Path) -> bool:
    name = page.relative_to(ROOT).as_posix()
    return any(name == other or name.startswith(f"{other}/") for other in ELSEWHERE)


PAGES = [
    page for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))) if blocks(page) and not taken_elsewhere(page)
]


class Reader:
    """Goes through one page as its reader would, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = "frame.yaml"
        self.printed: str | None = None
        shutil.copytree(ROOT / "tests" / "docs_frame", folder, dirs_exist_ok=True)
        shutil.copytree(ROOT / "specs", folder / "specs", ignore=shutil.ignore_patterns("*.tuned.yaml"))
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
        self.environment.pop("OPENAI_API_KEY", None)

    def keep(self, block: Block) -> None:
        (self.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / block.file).write_text(block.text, encoding="utf-8")

    def read(self, block: Block) -> None:
        title = block.file
        if title:
            self.keep(block)
        if block.language not in ("", "text"):
            self.printed = None
        kind = getattr(self, f"_{block.language or 'text'}", None)
        assert kind is not None, f"{block.page}: blocks of `{block.language}` are not checked yet"
        kind(block, title)

    def run(self, *command: str, limit: int = 600) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder; what it has started and left behind ends with it."""
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return subprocess.CompletedProcess(command, process.returncode, out)

    def checked(self, path: str) -> None:
        done = self.run("lmprog", "check", path, "--format", "json")
        findings = json.loads(done.stdout)["findings"]
        errors = [f"{one['code']} {one['message']}" for one in findings if one["severity"] == "error"]
        assert errors == [], f"{path}:\n{(self.folder / path).read_text()}"

    def _yaml(self, block: Block, title: str) -> None:
        value = yaml.load(block.text, Loader=yaml.CSafeLoader)  # as lmprog reads it
        if block.text.lstrip().startswith("lmprog:") or (isinstance(value, dict) and "lmprog" in value):
            path = title or "shown.yaml"
            (self.folder / path).write_text(block.text, encoding="utf-8")
            if "extends" not in value:
                self.program = path
            expected = FINDS.get((block.page, title))
            if expected is not None:
                assert expected in self.run("lmprog", "check", path).stdout
            else:
                self.checked(path)
        elif isinstance(value, dict) and value.keys() <= PROGRAM.keys.keys():
            text = f"lmprog: 1\nextends: ./{self.program}\n{block.text}"
            (self.folder / "fragment.yaml").write_text(text, encoding="utf-8")
            self.checked("fragment.yaml")
        else:
            assert title or (block.page, block.begins()) in FRAGMENTS, f"{block.page}: no place for\n{block.text}"

    def _json(self, block: Block, title: str) -> None:
        json.loads(block.text)

    def _jsonl(self, block: Block, title: str) -> None:
        assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())

    def _toml(self, block: Block, title: str) -> None:
        tomllib.loads(block.text)

    def _python(self, block: Block, title: str) -> None:
        compile(block.text, title or block.page, "exec")
        if not title:
            (self.folder / "shown.py").write_text(FAKED + block.text, encoding="utf-8")
            done = self.run(sys.executable, "shown.py")
            assert done.returncode == 0, done.stdout
            self.printed = done.stdout

    def _bash(self, block: Block, title: str) -> None:
        done = self.run("bash", "-e", "-c", block.text)
        wanted = STATUS.get((block.page, block.begins()), 0)
        assert done.returncode == wanted, f"{block.text}\n{done.stdout}"
        self.printed = done.stdout

    def _text(self, block: Block, title: str) -> None:
        """Compare what the block before printed, line by line; `...` stands for anything."""
        if self.printed is None or title:
            return
        shown = [line.rstrip() for line in self.printed.splitlines()]
        for line in block.text.splitlines():
            pattern = ".*".join(map(re.escape, line.rstrip().split("...")))
            assert any(re.fullmatch(pattern, one) for one in shown), f"{line!r} is not in\n{self.printed}"

    def _lua(self, block: Block, title: str) -> None:
        """Leave the set-up of Neovim unread: no interpreter of Lua is at hand."""

    def _rooms(self, block: Block, title: str) -> None:
        """Leave the picture of the rooms to test_rooms.py."""

    def _csv(self, block: Block, title: str) -> None:
        assert title


FAKED = """\
import lmprog

_load = lmprog.load
lmprog.load = lambda *given, **named: _load(*given, **named) if "lms" in named else _load(*given, **named).faked()
"""
FINDS: dict[tuple[str, str], str] = {
    ("docs/howto/agents.md", "desk.yaml"): "LMP604",  # until lmprog tools has written the lock file
    ("docs/howto/agents.md", "order.yaml"): "LMP605",
    ("README.md", "leak.yaml"): "LMP401",
    ("docs/tutorial.md", "desk.yaml"): "LMP203",
    ("docs/howto/privacy.md", "leak.yaml"): "LMP401",
}
"""Programs that a page shows for what is found in them: the page and title, and the code."""
STATUS: dict[tuple[str, str], int] = {
    ("README.md", ".venv/bin/lmprog check leak.yaml"): 1,
    ("docs/howto/privacy.md", "lmprog check leak.yaml"): 1,
    ("docs/tutorial.md", "lmprog check desk.yaml"): 1,
    ("docs/tutorial.md", 'lmprog run desk.yaml --input message="My chain jumps when I climb."'): 1,
}
"""Exit statuses of commands that end with another than 0, by page and first line."""
FRAGMENTS: dict[tuple[str, str], str] = {
    ("docs/howto/ci.md", "- uses: OWNER/lmprog@v0.1.0"): "a step of a workflow",
}
"""YAML that is neither a program nor keys of its top level: the page and first line, and what it is."""


ASKS_MODEL = ("docs/tutorial.md", "docs/howto/ci.md")
"""Pages whose commands ask the embedded model for many seconds."""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name, marks=[pytest.mark.model] if name in ASKS_MODEL else [])
        for page in PAGES
        for name in [page.relative_to(ROOT).as_posix()]
    ],
)
def test_the_blocks_of_a_page(page: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for block in blocks(page):  # a program may name a file that the page shows after it
        if block.file and block.language != "yaml":
            reader.keep(block)
    for block in blocks(page):
        if any(block.page == name and block.text.startswith(start) for name, start in CANNOT_RUN):
            reader.printed = None
        else:
            reader.read(block)


def test_what_cannot_be_run_is_there() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    for name, start in CANNOT_RUN:
        assert any(block.page == name and block.text.startswith(start) for block in every), (name, start)
    for table in (STATUS, FRAGMENTS):
        for name, first in table:
            assert any(block.page == name and block.begins() == first for block in every), (name, first)
    for name, title in FINDS:
        assert any(block.page == name and block.title == title for block in every), (name, title)
