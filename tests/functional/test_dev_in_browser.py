"""`lmprog dev` in Chromium, at a desk's and a phone's width: a person edits, looks, types, runs and compares."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SPEC = """
lmprog: 1
name: desk
inputs: {text: str, mood: {enum: [calm, angry]}}
lms: {lm: {model: openai/gpt-4.1-mini, params: {max_tokens: 40}}}
modules:
  sort: {inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}, instructions: Say what the message is about.}
  answer: {inputs: {text: str, label: str, mood: str}, outputs: {reply: str}, instructions: Answer the message.}
steps:
  sort: {module: sort, with: {text: "${{ inputs.text }}"}}
  answer: {module: answer, with: {text: "${{ inputs.text }}", label: "${{ steps.sort.label }}", mood: "${{ inputs.mood }}"}}
outputs: {label: "${{ steps.sort.label }}", reply: "${{ steps.answer.reply }}"}
data: {dev: rows.jsonl}
"""
COMMAND = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "dev"]


@pytest.fixture
def spec(write) -> Path:
    rows = [{"text": f"Where is parcel {number}?", "mood": "angry"} for number in range(3)]
    write("".join(json.dumps(row) + "\n" for row in rows), "rows.jsonl")
    return write(SPEC)


@pytest.fixture
def url(spec: Path) -> Iterator[str]:
    with subprocess.Popen([*COMMAND, str(spec)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+/", process.stderr.readline())
        assert found
        yield found.group()
        process.kill()


class Reader:
    """A page in the browser, and what it has said and asked for."""

    def __init__(self, browser: Any, url: str, width: int, scheme: str) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.said: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.goto(url)

    def sees(self, where: str, text: str) -> None:
        """Wait until a part of the page has a text."""
        self.page.locator(where, has_text=text).first.wait_for(timeout=60_000)

    def width(self) -> int:
        self.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        return self.page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_program_is_edited_looked_at_and_run(browser, url: str, spec: Path, width: int, scheme: str) -> None:
    reader = Reader(browser, url, width, scheme)
    page = reader.page
    assert page.title() == "desk: lmprog dev"
    reader.sees("#prompts", "Where is parcel 0?")
    reader.sees("#findings", "None")
    assert not page.locator("#line").is_visible()

    # A saved file changes the page, which is not loaded again.
    page.evaluate("window.mark = 1")
    spec.write_text(spec.read_text().replace("Answer the message.", "Answer in one sentence."))
    reader.sees("#prompts", "Answer in one sentence.")

    # The next row; then words of one's own.
    page.get_by_role("button", name="the next row").click()
    reader.sees("#prompts", "Where is parcel 1?")
    page.get_by_label("text", exact=False).first.fill("Where is my <b>letter</b>?")
    reader.sees("#prompts", "Where is my <b>letter</b>?")
    page.get_by_role("button", name="as in the row").click()
    reader.sees("#prompts", "Where is parcel 1?")

    # Two runs with fakes are compared.
    page.get_by_role("button", name="Run with fakes").click()
    reader.sees("#runs", "Run 1")
    reader.sees("#runs", "2 calls, step by step")
    spec.write_text(spec.read_text().replace("[billing, refund]", "[refund, billing]"))
    reader.sees("#prompts", "one of refund, billing")
    page.get_by_role("button", name="Run with fakes").click()
    reader.sees("#runs", "Run 1 against run 2")
    assert page.locator("#runs .diff .added", has_text="+refund").count() > 0
    call = page.locator("#runs .call summary").first
    call.focus()
    page.keyboard.press("Enter")
    reader.sees("#runs .call", "Say what the message is about.")

    # A step of the drawing leads to its request.
    request = page.locator("#prompts details.request").nth(1)
    if request.evaluate("part => part.open"):
        request.locator("summary").first.click()
    page.locator("#graph a", has_text="answer: answer").click()
    reader.sees("#prompts details.request[open]", "Answer in one sentence.")

    # A broken file shows its finding above the last good state.
    good = spec.read_text()
    spec.write_text(good.replace('steps.sort.label }}", mood', 'steps.sort.lable }}", mood'))
    reader.sees("#findings", "lable")
    reader.sees("header", "broken")
    assert page.locator("#findings mark").first.is_visible() and page.locator("#findings .path").first.is_visible()
    assert "Where is parcel 1?" in page.locator("#prompts").inner_text()
    findings, prompts = (page.locator(where).bounding_box() for where in ("#findings", "#prompts"))
    assert findings["y"] < prompts["y"]
    assert reader.width() <= width

    spec.write_text(good)
    reader.sees("#findings", "None")
    assert reader.width() <= width
    assert page.evaluate("window.mark") == 1
    assert reader.said == []
    assert {address.removeprefix(url) for address in reader.asked} == {"", "events", "parts", "run"}
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_keyboard_reaches_all_that_can_be_done(browser, url: str, width: int) -> None:
    """Tab goes through the form to the runs, in the order in which they stand; Enter runs."""
    page = Reader(browser, url, width, "light").page
    page.locator("#prompts", has_text="parcel 0").wait_for()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(({name, id, dataset}) => name || id || dataset.run)(document.activeElement)"))
        if reached[-1] == "real":
            break
    order = [name for name in reached if name in ("split", "row", "input-text", "input-mood", "fake", "real")]
    assert order == ["split", "row", "input-text", "input-mood", "fake", "real"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.locator("#runs", has_text="Run 1").wait_for()
    page.locator("#runs", has_text="step by step").wait_for()
    # The button that was pressed keeps the focus when its part of the page is shown anew.
    page.wait_for_function("document.activeElement.dataset.run === 'fake'", timeout=60_000)
    page.close()


def test_a_program_that_could_not_run_yet_appears_when_it_can(browser, spec: Path) -> None:
    good = spec.read_text()
    spec.write_text(good.replace("outputs:", "output:"))
    with subprocess.Popen([*COMMAND, str(spec), "--fake"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+/", process.stderr.readline())
        assert found
        reader = Reader(browser, found.group(), 390, "light")
        reader.sees("#findings", "did you mean")
        assert reader.page.locator("#runs").count() == 0
        spec.write_text(good)
        reader.sees("#prompts", "Where is parcel 0?")
        assert reader.page.get_by_role("button", name="Run with the real").count() == 0
        reader.page.get_by_role("button", name="Run with fakes").click()
        reader.sees("#runs", "2 calls, step by step")
        assert reader.said == []
        reader.page.close()
        process.kill()


def test_a_page_whose_server_has_ended_says_so(browser, spec: Path) -> None:
    with subprocess.Popen([*COMMAND, str(spec)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+/", process.stderr.readline())
        assert found
        page = Reader(browser, found.group(), 1280, "light").page
        page.locator("#prompts", has_text="parcel 0").wait_for()
        process.terminate()
        page.locator("#line", has_text="no connection").wait_for(state="visible")
        page.close()
