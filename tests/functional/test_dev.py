"""`lmprog dev` over HTTP: who may ask, what is shown as files change, runs, and what is private."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lmprog.playground import rows
from lmprog.playground.page import Playground
from lmprog.playground.runs import KeptRun
from lmprog.playground.server import playground_handler
from lmprog.playground.session import Session
from lmprog.reports.page.server import LocalServer
from lmprog.runtime.events import CallEnded, TextPiece
from tests.waiting import PATIENCE, wait_until

SPEC = """
lmprog: 1
name: desk
inputs: {text: str, hint: "str?", mood: {enum: [good, bad]}}
vars: {labels: {file: labels.txt}}
lms: {lm: {model: openai/x, api_base: "URL", api_key: none-needed}}
tools: {find: {python: "./tools.py:find", result: found, effects: read}}
modules:
  sort:
    lm: lm
    inputs: {text: str, found: str}
    outputs: {label: {enum: "${{ vars.labels }}"}}
    instructions: Sort the message.
steps:
  look: {tool: find, with: {query: "${{ inputs.text }}"}}
  sort: {module: sort, with: {text: "${{ inputs.text }}", found: "${{ steps.look.found }}"}}
  call: {program: inner.yaml, with: {text: "${{ inputs.hint if inputs.hint is not none else inputs.mood }}"}}
outputs: {label: "${{ steps.sort.label }}", said: "${{ steps.call.said }}"}
data: {dev: rows.jsonl}
metrics:
  exact: {python: "./metrics.py:exact", with: {label: "${{ outputs.label }}", wanted: "${{ row.label }}"}}
"""
INNER = """
lmprog: 1
name: inner
inputs: {text: str}
outputs: {said: "${{ steps.say.said }}"}
lms: {lm: {model: openai/x, api_base: "URL", api_key: none-needed}}
modules: {say: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Say it.}}
steps: {say: {module: say, with: {text: "${{ inputs.text }}"}}}
"""
TOKEN = "token-of-the-test"


@pytest.fixture
def spec(write, provider, monkeypatch) -> Path:
    monkeypatch.delitem(sys.modules, "words", raising=False)  # that of the test before
    write("billing\nrefund\n", "labels.txt")
    write("from words import CALLED\n\n\ndef find(query: str) -> str:\n    return f'{CALLED} {query}'\n", "tools.py")
    write("CALLED = 'about'\n", "words.py")
    write("def exact(label, wanted):\n    return label == wanted\n", "metrics.py")
    write(INNER.replace("URL", provider.url), "inner.yaml")
    rows = [{"text": f"parcel {number}", "mood": "bad", "label": "refund"} for number in range(3)]
    write("".join(json.dumps(row) + "\n" for row in rows), "rows.jsonl")
    return write(SPEC.replace("URL", provider.url))


class Page:
    """A served page, and the questions of its script."""

    def __init__(self, spec: Path, imports: bool = True, **options: Any) -> None:
        self.session = Session(spec, {}, {}, imports)
        self.session.refresh()
        self.playground = Playground(self.session, **options)
        self.server = LocalServer(("127.0.0.1", 0), playground_handler(self.playground, TOKEN))
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/{TOKEN}/"

    def parts(self, **asked: Any) -> str:
        answer = httpx.post(f"{self.url}parts", json=asked, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.text

    def run(self, **asked: Any) -> httpx.Response:
        return httpx.post(f"{self.url}run", json=asked, timeout=PATIENCE)

    def ended(self, count: int = 1, **asked: Any) -> str:
        """The parts of the page once so many runs have been made, and none is at work."""
        runs = self.playground.runs
        wait_until(lambda: runs.current is None and runs.last, "the end of the run")
        assert self.playground.runs.last[0].number == count
        return self.parts(**asked)

    def close(self) -> None:
        self.playground.runs.stop()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def opened() -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def opened(spec: Path, **options: Any) -> Page:
        pages.append(Page(spec, **options))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()


@pytest.fixture
def page(spec: Path, opened: Callable[..., Page]) -> Page:
    return opened(spec)


def section(text: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)
    assert found, name
    return found[0]


def test_the_page_shows_findings_graph_form_and_requests(page: Page) -> None:
    answer = httpx.get(page.url, timeout=PATIENCE)
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-frame-options"] == "DENY" and answer.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in answer.headers
    text = answer.text
    assert "connect-src &#39;self&#39;" in text or "connect-src 'self'" in text
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", text)
    assert "None: <code>lmprog check</code> passes." in section(text, "findings")
    assert "\nparcel 0</textarea>" in section(text, "row") and "of 3</span>" in section(text, "row")
    requests = section(text, "prompts")
    assert "Sort the message." in requests and "about parcel 0" in requests and "call/say" in requests
    assert "look: tool find" in section(text, "graph") and "call: program inner" in section(text, "graph")
    assert "at most 2 LM calls, an unknown price" in section(text, "runs")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 403),
        ("/other/", {}, 403),
        (f"/{TOKEN}", {"host": "elsewhere.example"}, 403),
        (f"/{TOKEN}/", {"origin": "http://elsewhere.example"}, 403),
        (f"/{TOKEN}/", {"origin": "null"}, 403),
        (f"/{TOKEN}/etc/passwd", {}, 404),
        (f"/{TOKEN}/run", {}, 404),
    ],
)
def test_who_has_no_token_or_comes_from_elsewhere_reads_nothing(
    page: Page, path: str, headers: Any, status: int
) -> None:
    root = page.url.removesuffix(f"/{TOKEN}/")
    assert httpx.get(f"{root}{path}", headers=headers, timeout=PATIENCE).status_code == status


@pytest.mark.parametrize(
    ("name", "content", "headers", "status"),
    [
        ("run", "{}", {"content-type": "text/plain"}, 415),
        ("run", "{}", {"content-type": "application/x-www-form-urlencoded"}, 415),
        ("run", "{}", {"origin": "http://elsewhere.example"}, 403),
        ("run", "{}", {"host": "elsewhere.example"}, 403),
        ("run", "[]", {}, 400),
        ("run", "{", {}, 400),
        ("run", '{"row": "0"}', {}, 400),
        ("run", '{"typed": {"text": 1}}', {}, 400),
        ("parts", '{"split": 3}', {}, 400),
        ("run", '{"typed": {"mood": "so-so"}}', {}, 422),
        ("all", "{}", {}, 404),
    ],
)
def test_a_question_that_is_none_is_refused(page: Page, name: str, content: str, headers: Any, status: int) -> None:
    answer = httpx.post(
        f"{page.url}{name}", content=content, headers={"content-type": "application/json"} | headers, timeout=PATIENCE
    )
    assert answer.status_code == status, answer.text
    assert page.playground.runs.current is None and page.playground.runs.last == []


def test_another_row_and_typed_inputs_are_rendered(page: Page) -> None:
    assert "about parcel 2" in section(page.parts(row=2), "prompts")
    assert "about parcel 2" in section(page.parts(row=99), "prompts")
    text = page.parts(row=1, typed={"text": "a: b", "hint": "quietly"})
    assert "about a: b" in section(text, "prompts") and "quietly" in section(text, "prompts")
    wrong = page.parts(typed={"mood": "so-so"})
    assert "the input &#39;mood&#39;" in section(wrong, "row") and "disabled" in section(wrong, "runs")


def test_a_run_is_shown_step_by_step_and_compared_with_the_last(page: Page, provider) -> None:
    assert page.run(row=1).status_code == 202
    text = section(page.ended(), "runs")
    assert "fakes · row 1 of dev" in text and "<dt>label</dt><dd>billing</dd>" in text
    assert re.findall(r"<summary><code>([^<]+)</code>", text) == ["look", "call/say", "sort"]
    assert provider.requests == []
    provider.answer = lambda body: "refund" if body["messages"][0]["content"].startswith("Sort") else "well"
    assert page.run(row=1, typed={"text": "another"}, real=True).status_code == 202
    text = section(page.ended(2), "runs")
    assert "real LMs · row 1 of dev, with another text" in text and "<dd>refund</dd>" in text
    assert len(provider.requests) == 2 and "Run 1 against run 2" in text
    assert '<span class="removed">-billing\n</span><span class="added">+refund\n</span>' in text
    assert '<span class="removed">-parcel 1' not in text and "+about another" in text


def test_a_row_that_is_run_as_it_is_has_its_scores(page: Page, spec: Path, provider) -> None:
    provider.answer = lambda body: "refund" if body["messages"][0]["content"].startswith("Sort") else "well"
    page.run(real=True)
    assert "<dt>exact</dt><dd>1</dd>" in section(page.ended(), "runs")
    page.run()
    page.run(real=True, typed={"text": "of my own"}) if page.ended(2) else None
    assert "<h4>Scores</h4>" not in section(page.ended(3), "runs")
    metric = spec.with_name("metrics.py")
    metric.write_text("def exact(label, wanted):\n    raise ValueError('no score')\n")
    page.session.refresh({metric})
    page.run(real=True)
    assert "no score" in section(page.ended(4), "runs").split("Run 3</b>")[0]


def test_a_run_that_fails_says_why(page: Page, provider) -> None:
    provider.otherwise = "neither"
    assert page.run(real=True).status_code == 202
    text = section(page.ended(), "runs")
    assert ">failed</span>" in text and "sort: " in text and "neither" in text


def test_one_run_is_at_work_at_a_time_and_can_be_stopped(page: Page, provider) -> None:
    provider.held_after = 0
    assert page.run(real=True).status_code == 202
    wait_until(lambda: provider.requests, "the first request")
    refused = page.run()
    assert refused.status_code == 409 and "a run is at work" in refused.text
    assert 'id="stop"' in section(page.parts(), "runs")
    assert httpx.post(f"{page.url}stop", json={}, timeout=PATIENCE).status_code == 202
    assert ">stopped</span>" in section(page.ended(), "runs")
    provider.released.set()
    provider.held_after = None
    assert page.run().status_code == 202
    assert ">ended</span>" in section(page.ended(2), "runs")


def test_a_reply_is_shown_as_it_is_written(page: Page) -> None:
    """The pieces of a reply stand on the page while a run is at work, and end with the call."""
    runs = page.playground.runs
    runs.current = KeptRun(1, False, "row 0 of dev", "12:00:00")
    for piece in ("Hel", "lo & more"):
        runs._write(TextPiece("sort", "sort", 0, piece))
    assert '<h4>sort</h4><pre tabindex="0">Hello &amp; more</pre>' in section(page.parts(), "runs")
    runs._write(TextPiece("sort", "sort", 0, None))
    runs._write(TextPiece("sort", "sort", 1, "Again"))
    assert ">Again</pre>" in section(page.parts(), "runs")
    runs._note(CallEnded("sort", "sort", None, 1, 0.25, None))
    text = section(page.parts(), "runs")
    assert ">Again</pre>" not in text and "<li>sort (sort): 0.2 s</li>" in text
    runs.current = None


def test_a_page_of_fakes_asks_no_model(spec: Path, opened, provider) -> None:
    page = opened(spec, only_fakes=True)
    assert 'data-run="real"' not in page.parts()
    answer = page.run(real=True)
    assert answer.status_code == 422 and "fakes only" in answer.text and provider.requests == []


def test_the_last_good_state_stays_while_the_file_is_broken(spec: Path, page: Page) -> None:
    good = spec.read_text()
    spec.write_text(good.replace("steps.sort.label", "steps.sort.lable"))
    page.session.refresh()
    text = page.parts()
    assert text.index('id="findings"') < text.index('id="row"') and "broken: the last good state is shown" in text
    findings = section(text, "findings")
    assert "LMP203 explained" in findings and re.search(r"program.yaml:\d+:\d+<", findings) and "<mark>" in findings
    assert "about parcel 0" in section(text, "prompts")
    assert page.run().status_code == 202 and ">ended</span>" in section(page.ended(), "runs")
    spec.write_text(good.replace("Sort the message.", "Sort it."))
    page.session.refresh()
    text = page.parts()
    assert "no findings" in text and "Sort it." in section(text, "prompts")
    spec.unlink()
    page.session.refresh()
    assert "cannot read" in section(page.parts(), "findings")


def test_a_program_that_never_could_run_is_shown_with_its_findings(write, opened) -> None:
    page = opened(write("lmprog: 1\nname: none\nmodules: {a: {lm: nowhere}}\n"))
    text = page.parts()
    assert "there is no LM" in text or "LMP" in section(text, "findings")
    assert 'id="runs"' not in text
    assert page.run().status_code == 422


@pytest.mark.parametrize(
    ("name", "change", "shown"),
    [
        ("program.yaml", ("Sort the message.", "Sort it."), "Sort it."),
        ("inner.yaml", ("Say it.", "Say it loud."), "Say it loud."),
        ("labels.txt", ("billing", "bill"), "one of bill, refund"),
        ("tools.py", ("{CALLED} ", "{CALLED}, well, "), "about, well, parcel 0"),
        ("words.py", ("about", "on"), "on parcel 0"),
        ("rows.jsonl", ("parcel 0", "letter 0"), "about letter 0"),
        ("metrics.py", ("label == wanted", "wanted == label"), "about parcel 0"),
    ],
)
def test_every_file_that_the_program_reads_is_followed(
    spec: Path, page: Page, name: str, change: tuple[str, str], shown: str
) -> None:
    path = spec.with_name(name)

    class Looks(threading.Event):
        """Stands for the waits between looks: saves the file before the second, and ends after the third."""

        count = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.count += 1
            if self.count == 2:
                text = path.read_text()
                assert change[0] in text
                path.write_text(text.replace(*change))
            return self.count == 4

    before = page.session.changes
    page.session.follow(Looks())
    assert page.session.changes == before + 1
    assert shown in section(page.parts(), "prompts")


def test_a_missing_file_that_appears_is_noticed(spec: Path, opened) -> None:
    labels = spec.with_name("labels.txt")
    text = labels.read_text()
    labels.unlink()
    page = opened(spec)
    assert page.session.snapshot.broken and spec.parent.resolve() in page.session.snapshot.files
    labels.write_text(text)
    page.session.refresh()
    assert not page.session.snapshot.broken


def test_an_lm_that_is_declared_as_before_stays(write, opened) -> None:
    """The weights of a model in this process are not read again at each change of a prompt."""
    text = """
        lmprog: 1
        lms: {a: {model: embedded/smollm2-135m}, b: {model: embedded/smollm2-135m, params: {max_tokens: 9}}}
        modules:
          one: {lm: a, inputs: {text: str}, outputs: {half: str}, instructions: Begin.}
          two: {lm: b, inputs: {half: str}, outputs: {whole: str}, instructions: End.}
        inputs: {text: str}
        steps:
          one: {module: one, with: {text: "${{ inputs.text }}"}}
          two: {module: two, with: {half: "${{ steps.one.half }}"}}
        outputs: {whole: "${{ steps.two.whole }}"}
        """
    spec = write(text)
    session = opened(spec).session
    before = session.snapshot.program
    spec.write_text(spec.read_text().replace("Begin.", "Start.").replace("max_tokens: 9", "max_tokens: 99"))
    session.refresh()
    after = session.snapshot.program
    assert after.plan.modules["one"].instructions == "Start."
    assert after.lms["a"] is before.lms["a"] and after.lms["b"] is not before.lms["b"]


def test_the_button_of_the_real_lms_says_what_it_may_do(spec: Path, opened) -> None:
    assert ">Run with the real LMs (may cost)</button>" in opened(spec).parts()
    spec.write_text(spec.read_text().replace("effects: read", "effects: write"))
    assert ">Run with the real LMs (may cost; writes: find)</button>" in opened(spec).parts()


def test_a_run_that_is_stopped_before_it_has_begun_does_not_begin(page: Page, provider, monkeypatch) -> None:
    begun, begin = [], threading.Thread.start

    def held(thread: threading.Thread) -> None:
        if thread.name == "lmprog-dev-run":
            begun.append(thread)
        else:
            begin(thread)

    monkeypatch.setattr(threading.Thread, "start", held)
    assert page.run(real=True).status_code == 202
    assert httpx.post(f"{page.url}stop", json={}, timeout=PATIENCE).status_code == 202
    begin(begun[0])
    assert ">stopped</span>" in section(page.ended(), "runs") and provider.requests == []


def test_changes_are_told_as_events(spec: Path, page: Page) -> None:
    with httpx.stream("GET", f"{page.url}events", timeout=PATIENCE) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in answer.iter_lines() if line.startswith("data: "))
        first = int(next(lines).removeprefix("data: "))
        page.session.refresh()
        assert int(next(lines).removeprefix("data: ")) == first + 1


def test_a_strangers_program_is_shown_without_its_code(spec: Path, opened, tmp_path: Path, monkeypatch) -> None:
    """Neither its tools and metrics, nor packages that it names, are imported: to compile, watch, render or run with fakes."""
    mark = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    for name in ("tools.py", "metrics.py", "words.py", "strange/__init__.py"):
        path = spec.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(mark + (path.read_text() if path.exists() else ""))
    spec.write_text(
        spec.read_text() + '  other: {python: "strange.inner:score", with: {label: "${{ outputs.label }}"}}\n'
    )
    monkeypatch.syspath_prepend(spec.parent)
    page = opened(spec, imports=False, only_fakes=True)
    assert not page.session.snapshot.broken, page.session.snapshot.findings
    assert "Sort the message." in section(page.parts(), "prompts")
    assert page.run().status_code == 202 and ">ended</span>" in section(page.ended(), "runs")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def private(spec: Path, provider) -> Path:
    text = spec.read_text().replace("{text: str, hint", "{text: {type: str, private: true}, hint", 1)
    spec.write_text(text.replace("{model: openai/x, ", "{model: openai/x, trusted: true, "))
    provider.answer = lambda body: "refund" if body["messages"][0]["content"].startswith("Sort") else "well"
    return spec


def test_private_values_are_not_on_the_page(private: Path, opened, provider) -> None:
    page = opened(private)
    assert not page.session.snapshot.broken, page.session.snapshot.findings
    text = httpx.get(page.url, timeout=PATIENCE).text
    assert "parcel" not in text and "about (text, private)" in section(text, "prompts")
    assert page.run().status_code == 202
    assert "parcel" not in page.ended() and "about (text, private)" in section(page.ended(), "runs")
    assert page.run(real=True).status_code == 202
    runs = section(page.ended(2), "runs")
    # The run itself has the values of the row; what they reach is not shown.
    assert any("parcel 0" in body["messages"][-1]["content"] for body in provider.requests)
    assert "parcel" not in runs and "<dt>label</dt>" not in runs.split("Run 1</b>")[0]
    assert "The program has private values" in runs and "<dd>well</dd>" in runs


def test_private_values_are_shown_to_who_asks_for_them(private: Path, opened) -> None:
    page = opened(private, show_private=True)
    assert "about parcel 0" in section(page.parts(), "prompts")
    page.run(real=True)
    assert "<dt>label</dt><dd>refund</dd>" in section(page.ended(), "runs")


def test_a_program_without_data_shows_its_requests_and_runs_on_what_is_typed(spec: Path, opened) -> None:
    text = spec.read_text()
    begin = text.index("data:")
    spec.write_text(text[:begin] + text[text.index("metrics:") :].replace("row.label", "'refund'"))
    page = opened(spec)
    assert not page.session.snapshot.broken, page.session.snapshot.findings
    text = page.parts()
    assert "about (text)" in section(text, "prompts") and "the inputs text, mood" in section(text, "prompts")
    assert "the input &#39;text&#39; (str) is missing" in section(text, "row") and "disabled" in section(text, "runs")
    typed = {"text": "a letter", "mood": "good"}
    assert "about a letter" in section(page.parts(typed=typed), "prompts")
    assert page.run(typed=typed).status_code == 202
    assert "fakes · typed inputs" in section(page.ended(), "runs")


def test_rows_that_take_long_come_later(spec: Path, opened, monkeypatch) -> None:
    """Rows of a hub may take minutes: the page is shown without, and anew when they are there."""
    held, read = threading.Event(), rows.rows_of

    def slow(plan: Any, split: str) -> Any:
        held.wait(PATIENCE)
        return read(plan, split)

    monkeypatch.setattr(rows, "rows_of", slow)
    monkeypatch.setattr(rows, "PATIENCE", 0.05)
    page = opened(spec)
    assert "the rows of dev are still being read" in section(page.parts(), "row")
    seen = page.session.changes
    held.set()
    page.session.wait(seen, PATIENCE)
    assert "parcel 0</textarea>" in section(page.parts(), "row")
    spec.write_text(spec.read_text().replace("Sort the message.", "Sort it."))
    monkeypatch.setattr(rows, "rows_of", None)  # rows that are there are not read again
    page.session.refresh()
    assert "about parcel 0" in section(page.parts(), "prompts") and "Sort it." in section(page.parts(), "prompts")


def test_rows_that_cannot_be_read_leave_the_rest(spec: Path, opened) -> None:
    page = opened(spec)
    spec.with_name("rows.jsonl").write_text("{no json\n")  # before the rows are asked for, and after the check
    text = page.parts()
    assert "rows.jsonl:1" in section(text, "row") and 'id="graph"' in text
    text = page.parts(typed={"text": "mine", "mood": "bad"})
    assert "about mine" in section(text, "prompts") and "rows.jsonl:1" not in section(text, "row")


def test_what_rows_and_models_write_is_escaped(spec: Path, opened, provider) -> None:
    evil = "</textarea><script>alert(1)</script><img src=x onerror=alert(2)>"
    spec.with_name("rows.jsonl").write_text(json.dumps({"text": evil, "mood": "bad", "label": "refund"}) + "\n")
    page = opened(spec)
    provider.answer = lambda body: "refund" if body["messages"][0]["content"].startswith("Sort") else evil
    page.run(real=True)
    text = page.ended()
    assert "<script>" not in text and "<img" not in text and "&lt;script&gt;" in section(text, "runs")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@pytest.mark.slow
def test_the_command_serves_until_a_signal(spec: Path, number: signal.Signals, status: int) -> None:
    command = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "dev", str(spec), "--fake"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", process.stderr.readline())
        assert found
        with httpx.stream("GET", f"{found.group()}events", timeout=PATIENCE) as answer:
            assert answer.status_code == 200
            process.send_signal(number)
            assert process.wait(PATIENCE) == status
        assert process.stderr.read().strip() == ("interrupted" if status else "")


def test_a_spec_that_is_not_there_is_wrong_usage(cli, tmp_path: Path) -> None:
    status, out, err = cli("dev", tmp_path / "none.yaml")
    assert (status, out) == (2, "") and "is no file" in err
