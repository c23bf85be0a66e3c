"""A repository that nobody has looked at yet: no verb with `--no-import` reads or prints what lies outside of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CASES = Path(__file__).parents[3] / "shared/cases"
SECRET = "CANARY7391"
PROGRAM = """\
lmprog: 1
name: p
inputs: {t: str}
lms: {m: {model: embedded/smollm2-135m ADAPTER}}
modules:
  m: {lm: m, inputs: {t: str}, outputs: {a: str}, instructions: hi}
"""
ROWS = "data: {dev: own.jsonl, train: own.jsonl}\nmetrics: {j: {value: '1'}}\n"
NAMING = {
    "extends": "lmprog: 1\nextends: FILE\n",
    "vars": PROGRAM.replace("t: str}\nlms", 't: {type: {enum: "${{ vars.e }}"}, default: zzz}}\nlms')
    + "vars: {e: {file: FILE}}\n",
    "program": PROGRAM
    + 'steps: {s: {program: FILE, with: {t: "${{ inputs.t }}"}}}\noutputs: {a: "${{ steps.s.a }}"}\n',
    "judge": PROGRAM + 'metrics: {j: {program: FILE, with: {a: "${{ outputs.a }}"}}}\n',
    "data": PROGRAM + "data: {train: FILE, dev: FILE}\n",
    "rows": PROGRAM
    + "data: {fractions: {from: FILE, train: 0.5, dev: 0.5}}\nmetrics: {j: {value: '1'}}\n"
    + "optimize: {metric: j, stages: [bootstrap]}\n",
    "python": PROGRAM + 'tools: {w: {python: "FILE:f"}}\nmetrics: {j: {python: "FILE:f"}}\n',
    "type": PROGRAM.replace("a: str}", 'a: {type: "FILE:Kind"}}'),
    "openapi": PROGRAM + "tools: {w: {http: {openapi: FILE, operation: x}}}\n",
    "mcp": PROGRAM + "tools: {w: {mcp: {command: x, tool: x, schema: FILE}}}\n",
    "search": PROGRAM + "tools: {w: {search: {corpus: FILE, text: a, key: a}}}\n",
    "adapter": PROGRAM.replace(" ADAPTER", ", adapter: {path: FILE, sha256: abc}"),
    "teacher": PROGRAM + ROWS + "optimize: {metric: j, stages: [{grpo: {teachers: [{program: FILE}]}}]}\n",
}
OUTSIDE = ("secret.yaml", "program.yaml", "rows.jsonl", "code.py", "absent.yaml")
VERBS = (("graph",), ("render",), ("compile", "-o", "TARGET"), ("optimize", "--dry-run"))


class Opened:
    """Which files this process opens; an audit hook cannot be taken away again, only be told to rest."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.found: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is not None and event in ("open", "os.listdir", "os.scandir"):
            path = os.path.realpath(os.fsdecode(arguments[0])) if isinstance(arguments[0], str | bytes) else ""
            if path.startswith((self.folder, "/proc/self/environ", "/dev/zero")) or path.endswith("/environ"):
                self.found.append(path)


@pytest.fixture(scope="module")
def hook() -> Opened:
    return Opened()


@pytest.fixture
def repository(tmp_path: Path, hook: Opened, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A git checkout, with files outside that have a secret in them and links to these inside."""
    outside, repository = tmp_path / "outside", tmp_path / "checkout"
    outside.mkdir()
    (repository / ".git").mkdir(parents=True)
    (repository / ".git/config").write_text(f"[http]\n\textraheader = {SECRET}\n")
    (repository / "own.jsonl").write_text('{"t": "a"}\n{"t": "b"}\n')
    (outside / "secret.yaml").write_text(f"{SECRET}: 1\n{SECRET}: [\n")
    (outside / "program.yaml").write_text(PROGRAM.replace("ADAPTER", "") + f"{SECRET}: 1\n")
    (outside / "rows.jsonl").write_text(json.dumps({"t": SECRET}) + f"\n{SECRET}\n")
    (outside / "code.py").write_text(f"def {SECRET}() -> float:\n    return 1\n")
    for name in OUTSIDE:
        (repository / f"link-{name}").symlink_to(outside / name)
    (repository / "folder").symlink_to(outside)
    os.mkfifo(repository / "pipe")
    monkeypatch.chdir(repository)
    monkeypatch.setenv("CANARY", SECRET)
    hook.folder, hook.found = str(outside.resolve()), []
    yield repository
    hook.folder = None


def named() -> list[str]:
    """What a stranger's program may name to get at what is outside."""
    outside = [path for name in OUTSIDE for path in (f"../outside/{name}", f"./link-{name}", f"folder/{name}")]
    return [*outside, "/proc/self/environ", "/dev/zero", "./pipe", ".git/config", "../../../../../../etc/passwd"]


def specs(repository: Path, naming: str) -> list[Path]:
    found = []
    for number, file in enumerate(named()):
        path = repository / f"{naming}{number}.yaml"
        path.write_text(NAMING[naming].replace("FILE", file).replace(" ADAPTER", ""))
        found.append(path)
    return found


@pytest.mark.parametrize("naming", NAMING)
def test_check_reads_and_prints_nothing_from_outside(cli, repository: Path, hook: Opened, naming: str) -> None:
    files = specs(repository, naming)
    for style in ("text", "json", "github", "sarif", "junit"):
        status, out, err = cli("check", *files, "--no-import", "--format", style)
        assert status == (0 if naming == "type" else 1)
        assert SECRET not in out + err and "root:" not in out + err
    assert hook.found == []


@pytest.mark.parametrize("naming", NAMING)
@pytest.mark.parametrize("verb", VERBS, ids=[verb[0] for verb in VERBS])
def test_other_verbs_neither(
    cli: Callable[..., tuple[int, str, str]], repository: Path, hook: Opened, verb: tuple[str, ...], naming: str
) -> None:
    given = [str(repository.parent / "target") if word == "TARGET" else word for word in verb]
    for spec in (*specs(repository, naming)[:6:2], *specs(repository, naming)[-5:]):
        status, out, err = cli(*given, spec, "--no-import")
        assert status in (0, 1, 2)
        assert SECRET not in out + err and "root:" not in out + err
    assert hook.found == []


def test_files_that_are_named_on_the_command_line(cli, repository: Path, hook: Opened) -> None:
    files = ["link-secret.yaml", "link-program.yaml", "folder", "pipe", ".git/config"]
    for more in ([], ["--only-programs"]):
        status, out, err = cli("check", *files, "--no-import", *more)
        assert status == 1
        assert SECRET not in out + err
    assert hook.found == []


def test_what_is_inside_is_read(cli, repository: Path) -> None:
    folder = repository / "deep/er"
    folder.mkdir(parents=True)
    (repository / "base.yaml").write_text(PROGRAM.replace(" ADAPTER", ""))
    (folder / "link.yaml").symlink_to("../../base.yaml")
    (folder / "over.yaml").write_text("lmprog: 1\nextends: ../../base.yaml\ndata: {dev: ../../own.jsonl}\n")
    assert cli("check", folder / "over.yaml", folder / "link.yaml", "--no-import")[:2] == (0, "")
    assert cli("render", folder / "over.yaml", "--no-import")[0] == 0


def test_no_code_of_the_program_runs(cli, repository: Path) -> None:
    code = "open('ran', 'w').close()\ndef tool(x: str) -> str:\n    return x\ndef m(a: str) -> float:\n    return 1.0\n"
    (repository / "code.py").write_text(code)
    spec = repository / "spec.yaml"
    spec.write_text(
        PROGRAM.replace(" ADAPTER", "")
        + """
tools: {t: {python: "./code.py:tool"}}
steps:
  t: {tool: t, with: {x: "${{ inputs.t }}"}}
  m: {module: m, with: {t: "${{ str(steps.t.result) }}"}}
outputs: {a: "${{ steps.m.a }}"}
data: {train: own.jsonl, dev: own.jsonl}
metrics: {acc: {python: "./code.py:m", with: {a: "${{ outputs.a }}"}}}
optimize: {metric: acc, stages: [{prompt_search: {trials: 2}}]}
"""
    )
    for verb in VERBS:
        given = [str(repository.parent / "target") if word == "TARGET" else word for word in verb]
        assert cli(*given, spec, "--no-import")[0] == 0
        assert not (repository / "ran").exists()
    assert cli("render", spec)[0] == 0
    assert (repository / "ran").exists()
    status, _, err = cli("optimize", spec, "--no-import")
    assert status == 2
    assert "--dry-run" in err


MCP = PROGRAM.replace(" ADAPTER", "") + "tools: {s: {mcp: {command: sh, args: [-c, 'touch ran']}}}\n"
AGENT = MCP.replace("instructions: hi}", "instructions: hi, tools: [s]}")


@pytest.mark.parametrize("lock", ["none", "link", "dangling", "malformed", "whole"])
def test_no_server_is_started_and_no_lock_file_outside_is_read(cli, repository: Path, hook: Opened, lock: str) -> None:
    spec = repository / "spec.yaml"
    spec.write_text(AGENT)
    if lock in ("link", "dangling"):
        target = "secret.yaml" if lock == "link" else "absent.yaml"
        spec.with_suffix(".lock.json").symlink_to(repository.parent / "outside" / target)
    elif lock == "malformed":
        spec.with_suffix(".lock.json").write_text(f'{{"version": 1, "servers": [{{"tools": [{{"{SECRET}": 1}}]}}]}}')
    elif lock == "whole":
        tool = {"name": "t", "description": "It.", "inputSchema": {"type": "object"}}
        entry = {"ids": ["s"], "server": "s", "reached_by": "sha256:other", "tools": [tool]}
        spec.with_suffix(".lock.json").write_text(json.dumps({"version": 1, "servers": [entry]}))
    said = []
    for verb in (("check",), *VERBS):
        given = [str(repository.parent / "target") if word == "TARGET" else word for word in verb]
        status, out, err = cli(*given, spec, "--no-import")
        assert status in (0, 1, 2) and SECRET not in out + err
        said.append(out + err)
        assert not (repository / "ran").exists()
    assert hook.found == []
    assert "LMP605" in said[0] and ("outside of checkout/" in said[0]) == (lock in ("link", "dangling"))


def test_no_line_of_a_file_that_is_no_program(cli, repository: Path, hook: Opened) -> None:
    """Without `--no-import` too: findings go into logs that more people read than the file."""
    for text in ("extends: ../outside/secret.yaml", "extends: ../outside/rows.jsonl", "extends: /proc/self/environ"):
        (repository / "spec.yaml").write_text(f"lmprog: 1\n{text}\n")
        for style in ("text", "sarif"):
            status, out, err = cli("check", "spec.yaml", "--format", style)
            assert status == 1
            assert SECRET not in out + err
    for file in ("../outside/secret.yaml", "../outside/rows.jsonl", "link-secret.yaml"):
        status, out, err = cli("check", file)
        assert status == 1
        assert SECRET not in out + err
    # They were read, which the other tests would have noticed.
    assert hook.found


@pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not here: {CASES}")
@pytest.mark.parametrize("case", ["check/exfil/passwd.yaml", "check/exfil/pr.yaml", "faults/f02-extends-environ.yaml"])
def test_cases(cli, repository: Path, case: str) -> None:
    (repository / "case.yaml").write_text((CASES / case).read_text())
    for style in ("text", "sarif", "json"):
        status, out, err = cli("check", "case.yaml", "--no-import", "--format", style)
        assert status == 1
        assert SECRET not in out + err and "root:" not in out + err
