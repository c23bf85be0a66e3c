"""`lmprog eval --html`: the page of an evaluation, alone and of two programs, and with private values."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_eval import SPEC, spec

__all__ = ["spec"]

EVIL = "<script>alert(1)</script><img src=http://127.0.0.1:9/x>"


class Reader(HTMLParser):
    """Collects the addresses that a page names and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.scripts += tag == "script"
        self.links += [
            value for name, value in attributes if name in ("href", "src") and not value.startswith(("#", "data:"))
        ]


def rows_of(text: str) -> list[tuple[str, int]]:
    return [(way, int(row)) for way, row in re.findall(r'data-way="([a-z ]+)"><summary>.*?</span> row (\d+)', text)]


def test_the_page_has_each_row_with_its_calls(cli, spec: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "eval.html"
    status, out, err = cli("eval", spec, "--html", page, "--trace", tmp_path / "calls & more.jsonl")
    assert (status, err) == (0, f"written: {page}\n") and "exact 80.0%" in out
    text = page.read_text()
    assert "<strong>80.0%</strong><small>49.0% – 94.3%</small>" in text
    assert rows_of(text) == [("highest" if row < 8 else "lowest", row) for row in range(10)]
    assert "10 rows are few: a gain below 59 points" in text
    assert "refund → billing: 2" in text
    assert text.count('<summary><code>sort</code> <span class="what">sort, openai/x') == 10
    assert '<h4>reply</h4><pre tabindex="0">refund</pre>' in text
    found = Reader(text)
    assert found.links == ["../calls%20%26%20more.jsonl"] and found.scripts == 1
    assert f"lmprog trace &#39;{tmp_path / 'calls &amp; more.jsonl'}&#39; --row 3 --messages" in text


def test_two_programs_are_compared_row_by_row(cli, spec: Path, tmp_path: Path, provider) -> None:
    def answer(body: dict[str, Any]) -> str:
        known = 8 if body["messages"][0]["content"].startswith("Sort.") else 5
        return "refund" if int(body["messages"][-1]["content"]) < known else "billing"

    provider.answer = answer
    page = tmp_path / "eval.html"
    status, _, _ = cli("eval", spec, "--against", tmp_path / "other.yaml", "--html", page)
    assert status == 0
    text = page.read_text()
    ways = {"better": range(5, 8), "equal": (*range(5), 8, 9)}
    assert rows_of(text) == sorted(
        ((way, row) for way, rows in ways.items() for row in rows), key=lambda found: found[1]
    )
    assert "<strong>+30.0</strong>" in text and "3 better, 0 worse, 7 equal" in text
    assert f"{tmp_path / 'other.yaml'}: 0</h4>" in text


def test_calls_are_shown_for_the_first_rows(cli, spec: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lmprog.reports.page.evaluation_report.WITH_CALLS", 3)
    page = tmp_path / "eval.html"
    assert cli("eval", spec, "--html", page)[0] == 0
    text = page.read_text()
    assert text.count('class="call"') == 3 and len(rows_of(text)) == 10
    assert "Calls are shown for the first 3 rows" in text


def test_what_a_model_writes_is_escaped(cli, spec: Path, tmp_path: Path, provider) -> None:
    provider.otherwise = EVIL
    page = tmp_path / "eval.html"
    assert cli("eval", spec, "--html", page)[0] == 0
    found = Reader(page.read_text())
    assert (found.links, found.scripts) == ([], 1)
    assert rows_of(page.read_text()) == [("failed", row) for row in range(10)]


def test_private_values_are_not_on_the_page(cli, spec: Path, write, tmp_path: Path, provider) -> None:
    """Neither the private input, nor what it reaches, nor calls, labels and errors, which may quote it."""
    write(
        SPEC.replace("inputs: {text: str}\n", "inputs: {text: {type: str, private: true}}\n", 1).replace(
            "openai/x, ", "openai/x, trusted: true, "
        )
    )
    write("".join(f'{{"text": "secret{row}", "label": "refund"}}\n' for row in range(3)), "test.jsonl")
    provider.otherwise = lambda text: "refund" if text == "secret1" else f"I was told {text}"
    page = tmp_path / "eval.html"
    status, _, err = cli("eval", spec, "--html", page)
    assert status == 0, err
    text = page.read_text()
    assert "secret" not in text and "I was told" not in text and 'class="call"' not in text
    assert "has private values" in text and "2 failed (unreadable)" in text
    assert rows_of(text) == [("failed", 0), ("highest", 1), ("failed", 2)]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_without_requests_or_overflow(
    browser, cli, spec: Path, tmp_path: Path, provider, width: int
) -> None:
    provider.answer = lambda body: "refund" if body["messages"][0]["content"].startswith("Sort.") else "w" * 300
    page = tmp_path / "eval.html"
    assert cli("eval", spec, "--against", tmp_path / "other.yaml", "--html", page)[0] == 0
    shown = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    asked: list[str] = []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(page.as_uri())
    row = shown.locator("details.row").first
    row.locator("summary").first.focus()
    shown.keyboard.press("Enter")
    assert "refund" in row.locator(".answers").inner_text()
    shown.get_by_role("button", name="better").click()
    assert shown.locator("details.row:visible").count() == 10
    shown.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert (said, asked) == ([], [page.as_uri()])
    shown.close()
