"""The package that docs/extending.md shows: built and installed as users do, then used by a program through the CLI."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77", reason="builds the package without fetching a newer setuptools")

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs/extending.md"
COMMAND = [sys.executable, "-c", "from lmprog.cli.main import main; main()"]
SPEC = """
    lmprog: 1
    name: echoes
    lms: {lm: {model: echo/loud}}
    modules:
      say: {lm: lm, inputs: {text: {type: str, private: true}}, outputs: {reply: str}, prompt: {user: "{{ text }}"}}
"""


QUERY = """
    lmprog: 1
    name: orders
    inputs: {query: str}
    outputs: {rows: "${{ steps.find.result }}"}
    tools: {shop: {sqlite: {database: shop.db}}}
    steps: {find: {tool: shop, with: {query: "${{ inputs.query }}"}}}
"""


SCORED = (
    SPEC.replace("{type: str, private: true}", "str")
    + """
    data: {test: test.jsonl}
    metrics: {close: {metric: closeness, with: {text: "${{ outputs.reply }}", wanted: "${{ row.wanted }}"}}}
    export: {traces: {tally: {file: calls.txt}}}
"""
)


def install(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """Build and install a package; return the environment with it."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    target = folder / "site"
    command = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", target, folder]
    subprocess.run([sys.executable, "-m", "pip", *map(str, command)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def shown() -> dict[str, str]:
    """Return the files that the page shows, by the names in their first lines."""
    return {name: text for name, text in re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return install(tmp_path_factory.mktemp("echo") / "package", shown())


def lmprog(*arguments: object, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, arguments)], env=env, cwd=cwd, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_model_of_another_package_answers(write, installed, tmp_path: Path) -> None:
    spec = write(SPEC)
    checked = lmprog("check", spec, env=installed, cwd=tmp_path)
    assert checked.returncode == 0 and "LMP" not in checked.stdout, checked.stdout
    unread = lmprog("check", spec, "--no-import", env=installed, cwd=tmp_path)
    assert unread.returncode == 0 and "LMP" not in unread.stdout, unread.stdout
    done = lmprog("run", spec, "--input", "text=Hello you", env=installed, cwd=tmp_path)
    assert done.returncode == 0 and "HELLO YOU" in done.stdout, done.stderr
    failed = lmprog("run", spec, "--lm", "lm=echo/hoarse", "--input", "text=a", env=installed, cwd=tmp_path)
    assert failed.returncode == 3 and "write echo/loud or echo/quiet" in failed.stderr


def test_what_its_record_says_is_checked(write, installed, tmp_path: Path) -> None:
    spec = write(SPEC.replace("{model: echo/loud}", "{model: echo/loud, tool_protocol: native}"))
    done = lmprog("check", spec, env=installed, cwd=tmp_path)
    assert done.returncode == 1 and "has no way of its own to call tools" in done.stdout


def test_a_tool_of_another_package_is_called(write, installed, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.executescript("create table orders (id, item); insert into orders values (1, 'lamp'), (2, 'desk')")
    spec = write(QUERY)
    checked = lmprog("check", spec, env=installed, cwd=tmp_path)
    assert checked.returncode == 0 and "LMP" not in checked.stdout, checked.stdout
    query = "query=select item from orders where id = 2"
    done = lmprog("run", spec, "--input", query, env=installed, cwd=tmp_path)
    assert done.returncode == 0 and "desk" in done.stdout and "lamp" not in done.stdout, done.stdout + done.stderr
    failed = lmprog("run", spec, "--input", "query=select price from orders", env=installed, cwd=tmp_path)
    assert failed.returncode == 1 and "OperationalError: no such column: price" in failed.stderr
    write("extends: program.yaml\nlmprog: 1\ntools: {shop: {python: './shop.py:find'}}\n", "other.yaml")
    write("def find(query: str) -> str:\n    return 'found ' + query\n", "shop.py")
    other = lmprog("run", tmp_path / "other.yaml", "--input", "query=it", env=installed, cwd=tmp_path)
    assert "found it" in other.stdout, other.stderr


def test_options_of_a_tool_of_another_package_are_checked(write, installed, tmp_path: Path) -> None:
    spec = write(QUERY.replace("{database: shop.db}", "{databse: shop.db}"))
    done = lmprog("check", spec, env=installed, cwd=tmp_path)
    assert done.returncode == 1 and "has no key `databse`" in done.stdout and "did you mean `database`?" in done.stdout
    both = lmprog(
        "check", write(QUERY.replace("{sqlite:", "{python: 'os:getcwd', sqlite:")), env=installed, cwd=tmp_path
    )
    assert both.returncode == 1 and "needs exactly one of python, http, mcp, search, sqlite" in both.stdout
    absent = lmprog("check", spec, env=dict(os.environ), cwd=tmp_path)
    assert absent.returncode == 1 and "has no key `sqlite`" in absent.stdout


def test_a_metric_and_an_exporter_of_another_package(write, installed, tmp_path: Path) -> None:
    spec = write(SCORED)
    write('{"text": "lamp", "wanted": "LAMP"}\n{"text": "desk", "wanted": "none"}\n', "test.jsonl")
    checked = lmprog("check", spec, env=installed, cwd=tmp_path)
    assert checked.returncode == 0 and "LMP" not in checked.stdout, checked.stdout
    done = lmprog("eval", spec, "--metric", "close", "--format", "json", env=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mean"] == 0.5
    assert (tmp_path / "calls.txt").read_text() == "echoes 0: 1 calls\nechoes 1: 1 calls\n"
    write(SCORED.replace("calls.txt", "none/calls.txt"))
    failed = lmprog("eval", spec, "--metric", "close", env=installed, cwd=tmp_path)
    assert failed.returncode == 0 and "`tally` of `export` was not closed: FileNotFoundError" in failed.stderr


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("metric: closeness", "metric: closenes", "did you mean `closeness`?"),
        ('wanted: "', 'wnted: "', "has no parameter `wnted`"),
        ("{tally: {file: calls.txt}}", "{tally: {fil: calls.txt}}", "has no key `fil`"),
        ("{tally: {file: calls.txt}}", "{tally: {file: a}, content: true}", "has no meaning beside `tally`"),
        ("{tally: {file: calls.txt}}", "{tally: {file: a}, otlp: x}", "needs exactly one of otlp, tally"),
        ("{text: str}", "{text: {type: str, private: true}}", "LMP402"),
    ],
)
def test_metrics_and_exports_are_checked(write, installed, tmp_path: Path, written, instead, message) -> None:
    assert written in SCORED
    write('{"text": "lamp", "wanted": "LAMP"}\n', "test.jsonl")
    done = lmprog("check", write(SCORED.replace(written, instead)), env=installed, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stdout, done.stdout


def test_an_editor_gets_its_keys(installed, tmp_path: Path) -> None:
    assert '"sqlite"' in lmprog("schema", env=installed, cwd=tmp_path).stdout
    assert '"sqlite"' not in lmprog("schema", env=dict(os.environ), cwd=tmp_path).stdout


def test_a_prefix_that_is_nearly_its_own_is_a_slip(write, installed, tmp_path: Path) -> None:
    done = lmprog("check", write(SPEC.replace("echo/", "ecoh/")), env=installed, cwd=tmp_path)
    assert "`ecoh` is no known provider" in done.stdout and "did you mean `echo`?" in done.stdout


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
        ("BACKEND = 3", "must be a Backend, and is of type int"),
        (
            "from lmprog.compiler.backends import Backend\nBACKEND = Backend('ohce', make='x:y')",
            "has the prefix 'ohce'; both must be the same",
        ),
    ],
)
def test_a_broken_record_is_a_finding(write, tmp_path: Path, code: str, message: str) -> None:
    broken = install(tmp_path / "broken", {**shown(), "echo_lm.py": code})
    done = lmprog("check", write(SPEC), env=broken, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stdout and "lmprog-echo 0.1" in done.stdout


def test_programs_with_built_in_names_alone_read_no_entry_points(write, tmp_path: Path) -> None:
    text = (
        SPEC.replace("echo/loud", "hf/some/model")
        + """
    tools: {look: {http: {url: "http://none.invalid", inputs: {}, output: str}}}
    metrics: {right: {value: "1"}}
    export: {traces: traces.jsonl}
"""
    )
    spec = write(text.replace("{type: str, private: true}", "str"))
    code = (
        "import sys, importlib.metadata as m\n"
        "def scan(**_): raise SystemExit('scanned the entry points')\n"
        "m.entry_points = scan\n"
        "from lmprog.cli.main import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "check", str(spec)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
