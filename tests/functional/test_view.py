"""`lmprog view` on the run directory of a real optimization: the file, the server, and the page in a browser."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.functional.adding import BAD, BREAKING, GOOD, answer, proposed
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

STAGE = "prompt_search: {trials: 12, proposals: 6, demos: [2], demo_sets: 2, bootstrap_rows: 8}"
EVIL = f"{GOOD} <script>document.title = 'owned'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"
COMMAND = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "view"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the one run of these tests is kept; each gets a copy."""
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture
def run_dir(kept: Path, sums: Callable[..., Path], provider, cli, tmp_path: Path) -> Path:
    """A search whose winner is an instruction that would be a script, and what a training of two steps leaves."""
    if not kept.exists():
        optimize(kept, sums, provider, cli)
    return shutil.copytree(kept, tmp_path / "run")


def optimize(folder: Path, sums: Callable[..., Path], provider, cli) -> None:
    turns = itertools.cycle([BAD[0], BREAKING, EVIL, BAD[1]])

    def script(body: dict[str, Any]) -> str:
        return proposed(next(turns)) if body["model"] == "writer" else answer(body)

    provider.answer = script
    spec = sums(STAGE, tune="add: [instructions]")
    status, _, err = cli("optimize", spec, "-o", folder.with_name("tuned.yaml"), "--run-dir", folder)
    assert status == 0, err
    score = {"mean": 0.5, "ci95": [0.4, 0.6]}
    figures = {
        "loss": 0.1,
        "entropy": 2.0,
        "examples": 4,
        "without_signal": 1,
        "unreadable": 0,
        "lost": 0,
        "seconds": 2.0,
    }
    with (folder / "journal.jsonl").open("a") as file:
        for event in (
            {"event": "stage_started", "number": 2, "of": 2, "name": "grpo"},
            *({"event": "dev", "stage": "2-grpo", "step": step, "score": score} for step in (0, 2)),
            *({"event": "step", "stage": "2-grpo", "step": step, "of": 2, "reward": 0.5, **figures} for step in (1, 2)),
        ):
            file.write(json.dumps(event) + "\n")


@pytest.fixture
def page(run_dir: Path, cli, tmp_path: Path) -> Path:
    status, out, err = cli("view", run_dir, "--export", tmp_path / "page.html")
    assert (status, out) == (0, "") and err == f"written: {tmp_path / 'page.html'}\n"
    return tmp_path / "page.html"


def test_the_page_tells_the_whole_run(page: Path, run_dir: Path) -> None:
    text = page.read_text()
    report = json.loads((run_dir / "report.json").read_text())
    for score in (report["test"]["before"], report["test"]["after"], report["stages"][0]["validate"]):
        assert f"<b>{100 * score['mean']:.1f}%</b>" in text
    assert f"<strong>{100 * report['test']['difference']['mean']:+.1f}</strong>" in text
    assert f"<td>{report['spent']['lm_calls']:,}</td>" in text
    assert "accuracy: mean and 95% interval" in text
    assert "LMP501" in text and "Refused candidates" in text
    assert "Score on dev over trials" in text and "Score on dev over steps" in text
    assert f"+{GOOD} &lt;script&gt;" in text and text.count("<script>") == 1
    changed = re.findall(r'data-way="(better|worse)"><summary>', text)
    assert changed.count("better") > changed.count("worse")
    assert re.search(r"<li>add: \d+ instructions, 1 demo sets", text)  # a note of the search


def test_a_wrong_directory_is_wrong_usage(cli, tmp_path: Path) -> None:
    no_run = "lmprog: there is no run in {}: it has no journal.jsonl; name a folder that `optimize` wrote\n"
    no_trace = "lmprog: {} has no run: name a file that --trace has written\n"
    for name, said in ((tmp_path, no_run), (tmp_path / "nowhere", no_run), (Path(__file__), no_trace)):
        for more in ([], ["--export", tmp_path / "page.html"]):
            assert cli("view", name, *more) == (2, "", said.format(name))
    assert not (tmp_path / "page.html").exists()


@pytest.fixture
def served(run_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([*COMMAND, str(run_dir)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    found = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
    assert found
    yield process, found.group()
    process.kill()
    process.wait()


def test_the_page_is_made_anew_at_each_load(served, run_dir: Path) -> None:
    _, url = served
    first = httpx.get(url, timeout=PATIENCE)
    assert first.status_code == 200 and first.headers["content-type"] == "text/html; charset=utf-8"
    with (run_dir / "journal.jsonl").open("a") as file:
        file.write(json.dumps({"event": "note", "stage": "2-grpo", "text": "news & more"}) + "\n")
    second = httpx.get(url, timeout=PATIENCE).text
    assert "news &amp; more" not in first.text and "news &amp; more" in second
    assert httpx.get(f"{url}etc/passwd", timeout=PATIENCE).status_code == 404
    # A page of another name that leads here, as by DNS rebinding, reads nothing.
    assert httpx.get(url, headers={"host": "elsewhere.example"}, timeout=PATIENCE).status_code == 403
    shutil.rmtree(run_dir)
    gone = httpx.get(url, timeout=PATIENCE)
    assert gone.status_code == 500 and "there is no run in" in gone.text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_the_server_quietly(served, number: signal.Signals, status: int) -> None:
    process, url = served
    assert httpx.get(url, timeout=PATIENCE).status_code == 200
    process.send_signal(number)
    assert process.wait(PATIENCE) == status
    assert process.stderr.read().strip() == ("interrupted" if status else "")


def test_a_taken_port_is_said(cli, run_dir: Path, provider) -> None:
    port = provider.url.split(":")[2].removesuffix("/v1")
    status, _, err = cli("view", run_dir, "--port", port)
    assert status == 3 and f"127.0.0.1:{port} cannot be listened on" in err and "--port" in err


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_browser_shows_it_without_network_errors_or_overflow(browser, page: Path, width: int, scheme: str) -> None:
    shown = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(page.as_uri())
    assert shown.title() == "sums: an optimization"

    refused = shown.locator("details.refused").first
    refused.locator("summary").click()
    assert refused.locator("pre").first.is_visible() and "LMP501" in refused.locator("pre").first.inner_text()
    winner = shown.locator("details.wins")
    if not winner.locator("pre.diff").is_visible():
        winner.locator("summary").click()
    assert EVIL in winner.locator("pre.diff .added").last.inner_text()

    rows = shown.locator("details.row")
    rows.first.locator("summary").focus()
    shown.keyboard.press("Enter")
    assert rows.first.locator(".answers").is_visible() and "as written: 0" in rows.first.inner_text()
    both = rows.count()
    shown.get_by_role("button", name="better").click()
    better = shown.locator("details.row:visible").count()
    assert 0 < better <= both and shown.locator('details.row[data-way="better"]').count() == better
    shown.get_by_role("button", name="back").click()
    assert shown.locator("details.row:visible").count() == 0

    shown.get_by_role("link", name="2 grpo").click()
    chart = shown.locator("#stage-2 figure svg").first
    assert chart.is_visible() and "Score on dev over steps" in chart.get_by_role("img").or_(chart).first.text_content()
    shown.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    assert asked == [page.as_uri()]
    shown.close()


@pytest.mark.browser
def test_the_page_can_be_read_without_scripts(browser, page: Path) -> None:
    shown = browser.new_context(java_script_enabled=False).new_page()
    shown.goto(page.as_uri())
    assert shown.locator("h1").inner_text() == "sums"
    row = shown.locator("details.row").first
    row.locator("summary").click()
    assert row.locator(".answers").is_visible()
    assert not shown.locator(".filter").is_visible()
