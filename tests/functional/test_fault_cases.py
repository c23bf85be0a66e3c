"""The small faults of ../shared/cases/faults, each run as its README says, on a copy with ports that are free."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

import lmprog
from lmprog.runtime.options import RunOptions
from lmprog.state.json_lines import read_objects
from tests.functional.shared_cases import CASES
from tests.ports import listens, reserved
from tests.waiting import PATIENCE, wait_until

FOLDER = CASES / "faults"
PORTS = ("18080", "18081", "18090")
MAIN = [sys.executable, "-c", "from lmprog.cli.main import main; main()"]
ENDLESS = ("hang", "loris", "shang", "streamslow")
"""Modes of the LM's stand-in that take long by intent; the limit of a try ends them, which other tests hold."""
HUGE = ("gzipbomb", "hugebody", "endless", "hugeheader", "manyheaders")
"""Modes that cost the stand-in itself much; tests/unit/lmprog/boundary/test_bodies.py has the bomb."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the cases are not here: ../shared/cases/faults beside the project"),
]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the cases whose servers run, each at a port that was free."""
    folder = tmp_path_factory.mktemp("faults")
    held = ExitStack()
    numbers = {port: str(held.enter_context(reserved())) for port in PORTS}
    for path in FOLDER.iterdir():
        content = path.read_bytes()
        for port, number in numbers.items():
            content = content.replace(port.encode(), number.encode())
        (folder / path.name).write_bytes(content)
    commands = [["fakelm.py", numbers["18080"]], ["fakelm.py", numbers["18081"]], ["toolsrv.py"]]
    running = [
        subprocess.Popen([sys.executable, *command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    for number in numbers.values():
        wait_until(lambda number=number: listens(int(number)), "a server")
    yield folder
    for process in running:
        process.kill()
        process.wait()
    held.close()


@pytest.fixture
def faults(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the cases, for one test, which is the current one too."""
    folder = tmp_path / "faults"
    shutil.copytree(stand_ins, folder)
    for name, value in {"CANARY_KEY": "x", "C_APIKEY": "k123456789", "C_HEADER": "h123456789"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in "abc"))
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


ODD = {"01-stream-shape": 0, "01b-retry-after": 0, "01c-usage": 0, "01d-deep": 3, "13-negative-usage": 0}


@pytest.mark.parametrize(("case", "status"), ODD.items())
def test_an_odd_server_fails_its_rows_alone(cli, faults: Path, case: str, status: int) -> None:
    spec = f"f{case}.yaml"
    assert cli("run", spec, "--inputs", "rows.jsonl", "--out", "out.jsonl", "--trace", "trace.jsonl")[0] == status
    assert [(line["row"], bool(line["error"])) for line in lines(faults / "out.jsonl")] == [
        (row, status != 0) for row in range(3)
    ]
    assert cli("run", spec, "--input", "text=x", "--stream")[0] == status
    usages = [record["usage"] for record in read_objects(faults / "trace.jsonl") if record.get("usage")]
    assert all(count >= 0 for usage in usages for count in usage.values() if isinstance(count, int | float))


@pytest.mark.parametrize("model", ["openai/m", "litellm_proxy/m"])
@pytest.mark.parametrize("streams", [False, True])
def test_no_mode_of_the_stand_in_ends_a_batch(faults: Path, model: str, streams: bool) -> None:
    """All that `fakelm.py` can do, also what no spec of the cases names."""
    if model != "openai/m":
        pytest.importorskip("lmprog.lms.api.through_litellm")
    modes = sorted({*re.findall(r'if mode=="(\w+)"', Path("fakelm.py").read_text())} - {*ENDLESS, *HUGE})
    assert len(modes) > 80
    text = Path("f00-base.yaml").read_text().replace("openai/m", model).replace("tries: 2", "tries: 1")
    odd: dict[str, Any] = {}

    async def one(mode: str, gate: asyncio.Semaphore) -> None:
        path = faults / f"{mode}.yaml"
        path.write_text(text.replace("/ok/v1", f"/{mode}/v1").replace("timeout: 3", "timeout: 60"))
        options = RunOptions(on_text=(lambda piece: None) if streams else None)
        async with gate:
            result = await lmprog.load(path).run({"text": "a"}, options=options)
        if result.error is not None and (result.error.kind != "provider" or "Traceback" in result.error.message):
            odd[mode] = result.error

    async def all_of_them() -> None:
        gate = asyncio.Semaphore(8)
        await asyncio.gather(*(one(mode, gate) for mode in modes))

    asyncio.run(all_of_them())
    assert not odd


@pytest.mark.parametrize("form", ["text", "sarif", "github", "json"])
@pytest.mark.parametrize(
    "line", ["extends: /proc/self/environ", "extends: ../secret.yaml", "steps: {a: {program: ../secret.yaml}}"]
)
def test_check_shows_nothing_from_outside(cli, faults: Path, form: str, line: str) -> None:
    if line == "extends: /proc/self/environ":
        assert line in Path("f02-extends-environ.yaml").read_text()
    (faults.parent / "secret.yaml").write_text("CANARY=k123456789\n")
    (faults / "inner").mkdir()
    Path("inner/f02.yaml").write_text(f"lmprog: 1\n{line.replace('../', '../../')}\n")
    status, out, err = cli("check", "--no-import", "--format", form, "inner/f02.yaml")
    assert status == 1
    assert "k123456789" not in out + err


LEARN = "f03-resume-data-changed.yaml"


@pytest.fixture(scope="module")
def learned(stand_ins: Path) -> Path:
    """A run of the optimization that came to its end; copies of it are broken."""
    command = [*MAIN, "optimize", LEARN, "--run-dir", "whole", "-o", "whole.yaml"]
    subprocess.run(command, cwd=stand_ins, env={**os.environ, "CANARY_KEY": "x"}, check=True, capture_output=True)
    return stand_ins / "whole"


CHANGES = {
    "test labels": ("test.jsonl", "alpha", "beta", "data.test", "test"),
    "dev labels": ("dev.jsonl", "alpha", "beta", "data.dev", "1"),
    "train labels": ("train.jsonl", "alpha", "beta", "data.train", "1"),
    "metric": ("metrics.py", "==", "!=", "metrics.accuracy.python", "1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_over_what_has_changed_is_refused(cli, faults: Path, learned: Path, change: str) -> None:
    name, old, new, key, stage = CHANGES[change]
    shutil.copytree(learned, "run", dirs_exist_ok=True)
    journal = Path("run/journal.jsonl")
    kept = b"".join(journal.read_bytes().splitlines(keepends=True)[:6])
    journal.write_bytes(kept)
    before = Path(name).read_text()
    Path(name).write_text(before.replace(old, new))
    status, _, err = cli("optimize", LEARN, "--run-dir", "run", "--resume")
    assert status == 2 and f"`{key}" in err and "is changed" in err and f"--restart-stage {stage}" in err
    assert journal.read_bytes() == kept
    Path(name).write_text(before)
    assert cli("optimize", LEARN, "--run-dir", "run", "--resume", "-o", "tuned.yaml")[0] == 0
    assert Path("tuned.yaml").read_text() == learned.with_suffix(".yaml").read_text().replace("run: whole", "run: run")


@pytest.mark.parametrize("again", [False, True])
def test_half_a_surrogate_pair_ends_no_optimization(cli, faults: Path, again: bool) -> None:
    more = ["--set", "optimize.stages=[bootstrap]"] if again else []
    for resume in ([], ["--resume"]):
        status, _, err = cli(
            "optimize", "f04-journal-surrogate.yaml", "--run-dir", "run", "-o", "out.yaml", *more, *resume
        )
        assert status == 0, err
    assert cli("check", "out.yaml")[0] == 0


def test_an_out_file_goes_on_over_nothing_else(cli, faults: Path) -> None:
    spec = "f05-out-resume-other-inputs.yaml"
    command = ["run", spec, "--inputs", "rows.jsonl", "--out", "out.jsonl"]
    assert cli(*command)[0] == 0
    whole = Path("out.jsonl").read_bytes()
    Path("other.jsonl").write_text('{"text": "x"}\n{"text": "y"}\n{"text": "z"}\n')
    Path("other.yaml").write_text(Path(spec).read_text().replace("Say the label", "Say it"))
    others = [
        ("--inputs", ["run", spec, "--inputs", "other.jsonl", "--out", "out.jsonl"]),
        ("modules.classify.instructions", ["run", "other.yaml", "--inputs", "rows.jsonl", "--out", "out.jsonl"]),
        ("lms.student.model", [*command, "--lm", "student=openai/other"]),
        ("--seed", [*command, "--seed", "1"]),
    ]
    for key, other in others:
        status, _, err = cli(*other)
        assert status == 2 and f"`{key}` is changed" in err
        assert Path("out.jsonl").read_bytes() == whole


# Each line of f06-journal-lines.sh, and others like them: what a `sed` of it does to the journal.
BREAKS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "blank": lambda lines: [lines[0], b"\n", *lines[1:]],
    "no event": lambda lines: [lines[0], b'{"x":1}\n', *lines[1:]],
    "a list": lambda lines: [lines[0], b"[1,2]\n", *lines[1:]],
    "garbage": lambda lines: [lines[0], b"garbage\n", *lines[1:]],
    "NUL": lambda lines: [*lines[:3], b"\0" * 40 + b"\n", *lines[3:]],
    "torn": lambda lines: [*lines[:-1], lines[-1][:-9]],
    "NUL at the end": lambda lines: [*lines, b"\0" * 40],
    "twice": lambda lines: [*lines[:4], lines[3], *lines[4:]],
    "deep": lambda lines: [*lines[:2], b"[" * 9000 + b"]" * 9000 + b"\n", *lines[2:]],
    "no UTF-8": lambda lines: [*lines[:2], b"\xff\xfe\n", *lines[2:]],
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_line_of_a_journal_is_counted(cli, faults: Path, learned: Path, broken: str) -> None:
    shutil.copytree(learned, "run", dirs_exist_ok=True)
    journal = Path("run/journal.jsonl")
    journal.write_bytes(b"".join(BREAKS[broken](journal.read_bytes().splitlines(keepends=True))))
    status, out, err = cli("optimize", LEARN, "--run-dir", "run", "--resume", "-o", "tuned.yaml")
    assert status == 0 and "1 line could not be read and is left out" in out + err
    assert Path("tuned.yaml").read_text() == learned.with_suffix(".yaml").read_text().replace("run: whole", "run: run")


@pytest.mark.parametrize("size", [0, 13, 200])
def test_a_cut_run_json_is_one_sentence(cli, faults: Path, learned: Path, size: int) -> None:
    shutil.copytree(learned, "run", dirs_exist_ok=True)
    os.truncate("run/run.json", size)
    status, _, err = cli("optimize", LEARN, "--run-dir", "run", "--resume")
    assert status == 2 and err.startswith("lmprog: run/run.json cannot be read") and err.count("\n") == 1


@pytest.mark.parametrize("path", [None, "/fail/{id}", "/echo/{id}", "/badredir/{id}", "/loop/{id}"])
def test_a_secret_of_a_url_stands_nowhere(cli, faults: Path, monkeypatch, path: str | None) -> None:
    monkeypatch.setenv("C_TOOLURL", "SEKRET-abcdef-1234567")
    server = re.search(r"http://127\.0\.0\.1:\d+", Path("f08-tool-dotdot-surrogate.yaml").read_text())
    assert server is not None
    text = Path("f07-tool-url-secret.yaml").read_text()
    Path("f07.yaml").write_text(text if path is None else text.replace("127.0.0.1/{id}", f"{server[0]}{path}"))
    status, out, err = cli("run", "f07.yaml", "--input", "text=a", "--trace", "trace.jsonl")
    assert (status == 0) == (path == "/echo/{id}")
    assert "SEKRET" not in out + err + Path("trace.jsonl").read_text()


def test_an_argument_names_no_other_place_and_half_a_pair_fails_its_row(cli, faults: Path) -> None:
    spec = "f08-tool-dotdot-surrogate.yaml"
    for text in ("..", "."):
        status, _, err = cli("run", spec, "--input", f"text={text}")
        assert status == 1 and "names another place" in err
    with Path("f08-rows.jsonl").open("a") as file:
        file.write('{"text": "../.."}\n{"text": "a"}\n')
    assert cli("run", spec, "--inputs", "f08-rows.jsonl", "--out", "out.jsonl")[0] == 1
    first, second, third = lines(faults / "out.jsonl")
    assert "half a surrogate pair" in first["error"] and third["error"] is None
    assert "/users/..%2F../profile" in second["outputs"]["r"]


def test_serve_answers_what_is_hostile_in_json(faults: Path) -> None:
    Path("serve.yaml").write_text(
        "lmprog: 1\nname: echo\ninputs: {text: str, blob: json?}\n"
        'outputs: {text: "${{ inputs.text }}", blob: "${{ inputs.blob }}"}\nsteps: {s: {value: 1}}\n'
    )
    process = subprocess.Popen([*MAIN, "serve", "serve.yaml", "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        address = re.search(r"serving.*(http://127.0.0.1:\d+)", process.stderr.readline())
        assert address is not None
        deep = '{"text":"x","blob":' + "[" * 900 + "]" * 900 + "}"
        kind = {"Content-Type": "application/json"}
        asked: list[tuple[str, dict[str, str], int]] = [
            (deep, {}, 415),
            (deep, kind, 400),
            ('{"text":"x","blob":{"a":Infinity}}', kind, 400),
            (
                '{"text":"hi"}',
                {"Host": "evil.example", "Origin": "http://evil.example", "Content-Type": "text/plain"},
                403,
            ),
            ('{"text":"hi"}', {"Content-Type": "text/plain"}, 415),
            ('{"text":"hi"}', {**kind, "Origin": "http://evil.example"}, 403),
            ('{"text":"hi"}', kind, 200),
        ]
        for body, headers, status in asked:
            answer = httpx.post(f"{address[1]}/run", content=body, headers=headers, timeout=PATIENCE)
            assert answer.status_code == status and answer.json()
    finally:
        process.terminate()
        assert "Traceback" not in process.communicate()[1]


@pytest.mark.parametrize(
    "change",
    [
        "json_set(answer, '$.new_field', 1)",
        "json_remove(answer, '$.text')",
        "json_set(answer, '$.usage', 'x')",
        "json_set(answer, '$.text', json('{\"a\": 1}'))",
        "'garbage'",
        "'[1]'",
        "'null'",
        "x'ff00'",
    ],
)
def test_a_cache_row_of_another_form_counts_as_absent(cli, faults: Path, change: str) -> None:
    cached = ["--set", "lms.student.cache={folder: C}"]
    assert cli("run", "f00-base.yaml", "--inputs", "rows.jsonl", "--out", "a.jsonl", *cached)[0] == 0
    with sqlite3.connect("C/answers.sqlite") as database:
        assert database.execute(f"update answers set answer = {change}").rowcount == 3
    assert cli("run", "f00-base.yaml", "--inputs", "rows.jsonl", "--out", "b.jsonl", *cached)[0] == 0
    assert lines(faults / "a.jsonl") == lines(faults / "b.jsonl")


@pytest.mark.parametrize("verb", ["run", "optimize", "eval"])
def test_the_second_of_two_processes_is_refused(faults: Path, verb: str) -> None:
    for name in ("f00-base.yaml", LEARN):
        path = Path(name)
        slow = path.read_text().replace("/ok/", "/slow/").replace("/learn/", "/learnslow/")
        path.write_text(slow.replace("limits: {", "limits: {concurrency: 1, "))
    Path("rows.jsonl").write_text("".join(json.dumps({"text": f"r{number}"}) + "\n" for number in range(12)))
    commands = {
        "run": ["run", "f00-base.yaml", "--inputs", "rows.jsonl", "--out", "out.jsonl"],
        "optimize": ["optimize", LEARN, "--run-dir", "run", "-o", "tuned.yaml", "--set", "optimize.stages=[bootstrap]"],
        "eval": ["eval", LEARN, "--out", "out.jsonl"],
    }
    begun = {"run": "out.jsonl", "optimize": "run/journal.jsonl", "eval": "out.jsonl.part"}[verb]
    first = subprocess.Popen([*MAIN, *commands[verb]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: Path(begun).exists() and Path(begun).stat().st_size, "the first row")
    first.send_signal(signal.SIGSTOP)  # so that it has not ended when the second begins, however long that takes
    assert first.poll() is None
    resume = ["--resume"] if verb == "optimize" else []
    second = subprocess.run([*MAIN, *commands[verb], *resume], capture_output=True, text=True)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 3 and f"is being written by process {first.pid};" in second.stderr
    if verb == "optimize":
        first.kill()
        first.wait()
        return
    assert first.wait() == 0
    rows = [line["row"] for line in lines(faults / "out.jsonl")]
    assert rows == [*range(len(rows))]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_second_eval_that_is_cut_leaves_the_file(cli, faults: Path, how: signal.Signals) -> None:
    assert cli("eval", LEARN, "--out", "ev.jsonl")[0] == 0
    before = Path("ev.jsonl").read_bytes()
    base = re.search(r"http://[^/]+/", Path(LEARN).read_text())
    assert base is not None
    other = ["--set", f"lms.student.api_base={base[0]}hang/v1", "--set", "lms.student.limits.timeout=60"]
    running = subprocess.Popen([*MAIN, "eval", LEARN, "--out", "ev.jsonl", *other], stderr=subprocess.DEVNULL)
    wait_until(Path("ev.jsonl.part").exists, "the beginning")
    assert running.poll() is None
    running.send_signal(how)
    running.wait()
    assert Path("ev.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "verb", [["check"], ["graph"], ["compile", "--out", "t.json"], ["render"], ["optimize", "--dry-run"]]
)
def test_no_import_runs_nothing(cli, faults: Path, verb: list[str]) -> None:
    shutil.copy("f14-metrics.py", "metrics.py")
    Path("ok.jsonl").write_text('{"text": "a", "label": "b"}\n')
    name, *more = verb
    status, _, err = cli(name, "f14-graph-executes.yaml", "--no-import", *more)
    assert status == 0, err
    assert not Path("CANARY_EXECUTED").exists()


def test_no_redirect_is_followed(faults: Path) -> None:
    pytest.importorskip("lmprog.lms.api.through_litellm")
    run = subprocess.run([sys.executable, "redir.py"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    said = run.stdout.splitlines()
    assert len(said) == 6 and all(" None " in line and "gave no answer" in line for line in said), run.stdout


def test_long_fields_are_read_and_a_deep_row_fails_alone(cli, faults: Path) -> None:
    for name in ("bigfield.csv", "bigfield.jsonl"):
        assert cli("run", "f00-base.yaml", "--inputs", name, "--out", f"{name}.out")[0] == 0
    for depth in (101, 900, 100_000):
        deep = "[" * depth + "]" * depth
        Path("deeprow.jsonl").write_text(f'{{"text": "a"}}\n{{"text": {deep}}}\n{{"text": "b", "other": {deep}}}\n')
        status, _, _ = cli("run", "f00-base.yaml", "--inputs", "deeprow.jsonl", "--out", f"{depth}.out")
        assert status == 2
        errors = [line["error"] for line in lines(faults / f"{depth}.out")]
        assert errors == [None, "inputs: the input 'text': it is nested deeper than 100", None]
