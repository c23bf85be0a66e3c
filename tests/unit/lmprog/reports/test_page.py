"""What stands behind the page of an optimization: the account of its journal, the geometry of charts, and its escapes."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lmprog.errors import UsageError
from lmprog.optimizers.candidate import Candidate
from lmprog.reports.page import page
from lmprog.reports.page.charts import Chart, Point, Series, ticks
from lmprog.reports.page.run_report import read
from lmprog.reports.page.stages import charts

EVIL = "</pre><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x00\x1b[31m"


def finished(key: str, value: Any, **more: Any) -> dict[str, Any]:
    stage = {"stage": key.split("/")[0]} if key[0].isdigit() else {}
    return {"event": "finished", **stage, "key": key, "value": value, **more}


def estimate(mean: float, reach: float = 0.1) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - reach, mean + reach]}


def candidate(mean: float, rows: int, words: Candidate, *parents: Candidate) -> dict[str, Any]:
    kept = [parent.digest for parent in parents]
    return {"words": words.as_json(), "parents": kept, "score": estimate(mean), "rows": rows}


START, GOOD, WORSE = Candidate(), Candidate({"ask": EVIL}), Candidate({"ask": "Guess."})
TUNED = GOOD.then(Candidate(adapters={"lm": {"path": "/a", "sha256": "0" * 64, "base": "b", "base_sha256": "1"}}))


def ended(stage: str, words: Candidate, mean: float) -> dict[str, Any]:
    spent = {"lm_calls": 10, "prompt_tokens": 100, "completion_tokens": 20, "usd": 0.5, "seconds": 30.0}
    value = {"stage": stage, "candidate": words.as_json(), "spent": spent, "validate": estimate(mean)}
    return value | {"steps": 0, "step_seconds": 0.0}


def step(number: int, reward: float) -> dict[str, Any]:
    figures = {"loss": 0.1, "entropy": 2.0, "examples": 4, "without_signal": number, "unreadable": 0, "lost": 0}
    times = {"seconds": 3.0, "split": {"rollout": 2.0, "update": 1.0}, "reply_tokens": 7.5}
    return {"event": "step", "stage": "2-grpo", "step": number, "of": 2, "reward": reward, **figures, **times}


SEARCH = [
    {"event": "stage_started", "number": 1, "of": 2, "name": "gepa"},
    {"event": "note", "stage": "1-gepa", "text": EVIL},
    finished(f"1-gepa/candidate/{START.digest}", candidate(0.2, 20, Candidate({"ask": "Say."}))),
    finished(f"1-gepa/candidate/{WORSE.digest}", candidate(0.6, 8, WORSE, START)),
    {"event": "refused", "stage": "1-gepa", "candidate": Candidate({"ask": "Leak"}).as_json(), "findings": EVIL},
    finished(f"1-gepa/candidate/{GOOD.digest}", candidate(0.5, 20, GOOD, START)),
    finished(f"1-gepa/candidate/{WORSE.digest}", candidate(0.3, 20, WORSE, START)),
    {
        "event": "compared",
        "stage": "1-gepa",
        "what": "best",
        "difference": {**estimate(0.3), "p": 0.01},
        "verdict": "kept",
    },
    finished("stage/1-gepa", ended("gepa", GOOD, 0.5)),
]
TRAINING = [
    {"event": "stage_started", "number": 2, "of": 2, "name": "grpo"},
    {"event": "dev", "stage": "2-grpo", "step": 0, "score": estimate(0.5)},
    step(1, 0.3),
    step(2, 0.4),
    step(2, 0.45),  # done again after a kill
    {"event": "dev", "stage": "2-grpo", "step": 2, "score": estimate(0.7)},
    finished("stage/2-grpo", ended("grpo", TUNED, 0.7)),
]
TEST = [
    finished(
        f"test/{START.digest}",
        [0.0, 0.0, 1.0, 1.0, None],
        metric="accuracy",
        rows=[{"text": EVIL}] * 4,
        answers=[{"outputs": {"label": EVIL}}] * 4,
    ),
    finished(f"test/{GOOD.digest}", [1.0, 1.0, 1.0, 1.0, 1.0], answers=[{"outputs": {}, "error": EVIL}] * 4),
    finished(f"test/{TUNED.digest}", [1.0, 0.0, 0.0, 1.0, 1.0]),
    {"event": "run_ended", "overlay": "out.yaml"},
]


@pytest.fixture
def run(tmp_path: Path):
    def write(*events: dict[str, Any], name: str = EVIL) -> Path:
        (tmp_path / "run.json").write_text(json.dumps({"program": name, "seed": 3}))
        (tmp_path / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        return tmp_path

    return write


def test_failures_of_the_test_rows_stand_beside_their_version(run) -> None:
    kinds = [None, "tool", "tool", "unreadable", "provider"]
    folder = run(*SEARCH, *TRAINING, finished(f"kinds/{START.digest}", kinds), *TEST)
    said = ["2 failed (tool)", "1 failed (unreadable)", "1 left out (provider)"]
    assert [version.failures for version in read(folder).versions] == [said, [], []]
    assert all(f"<small>{words}</small>" in page(folder) for words in said)


def test_versions_stages_and_gains(run) -> None:
    report = read(run(*SEARCH, *TRAINING, *TEST))
    assert (report.metric, report.seed, report.of, report.state) == ("accuracy", 3, 2, "finished")
    assert [version.name for version in report.versions] == ["as written", "+ gepa", "+ grpo"]
    assert [version.test.mean for version in report.versions] == [0.5, 1.0, 0.6]
    assert report.gain is not None and report.gain.n == 4 and report.gain.mean == 0.0
    assert report.spent.lm_calls == 20 and report.spent.usd == 1.0
    assert report.change == TUNED and report.before == Candidate({"ask": "Say."})


def test_few_test_rows_are_said_to_be_few(run) -> None:
    remark = '<p class="remark">4 rows are few: '
    assert remark in page(run(*SEARCH, *TRAINING, *TEST))
    assert "are few" not in page(run(*SEARCH, *TRAINING))
    many = [
        finished(f"test/{found.digest}", [value] * 40) for found, value in ((START, 0.0), (GOOD, 0.0), (TUNED, 1.0))
    ]
    assert "are few" not in page(run(*SEARCH, *TRAINING, *many))


def test_rows_that_changed_and_came_back(run) -> None:
    report = read(run(*SEARCH, *TRAINING, *TEST))
    assert [(row.number, row.way) for row in report.changed] == [(0, "better"), (1, "back"), (2, "worse")]
    assert report.changed[0].inputs == {"text": EVIL}


def test_the_best_of_a_search_is_of_the_most_rows(run) -> None:
    stage = read(run(*SEARCH)).stages[0]
    assert [(one.score.mean, one.best.mean) for one in stage.searched] == [
        (0.2, 0.2),
        (0.6, 0.6),
        (0.5, 0.5),
        (0.3, 0.5),
    ]
    assert [entry.digest for entry in stage.roots] == [START.digest]
    assert [entry.refused for entry in stage.refused] == [EVIL] and stage.scored == 3


def test_steps_that_were_done_again_count_once(run) -> None:
    stage = read(run(*SEARCH, *TRAINING)).stages[1]
    assert [made["reward"] for made in stage.steps] == [0.3, 0.45]
    drawn = {chart.title: chart for chart in charts(stage)}
    assert set(drawn) == {
        "Score on dev over steps", "Mean reward", "Loss", "Entropy of a token, nat", "Examples without signal",
        "Seconds of a step",
    }  # fmt: skip
    assert [point.y for point in drawn["Examples without signal"].points] == [0.25, 0.5]
    assert [series.name for series in drawn["Seconds of a step"].series] == ["whole step", "rollouts"]
    assert [(point.low, point.high) for point in drawn["Score on dev over steps"].points] == [
        (0.4, 0.6),
        (pytest.approx(0.6), pytest.approx(0.8)),
    ]


@pytest.mark.parametrize("length", range(len(SEARCH + TRAINING + TEST) + 1))
def test_a_run_at_work_has_a_page_at_every_moment(run, length: int) -> None:
    folder = run(*(SEARCH + TRAINING + TEST)[:length], name="desk")
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"event": "torn')
    shown = page(folder)
    assert "<h1>desk</h1>" in shown
    assert (">finished<" in shown) == (length == len(SEARCH + TRAINING + TEST))


class Tags(HTMLParser):
    """Counts what a browser would take for tags, and keeps attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_that_a_model_wrote_becomes_markup(run) -> None:
    shown = page(run(*SEARCH, *TRAINING, *TEST))
    seen = Tags(shown)
    assert seen.tags.count("script") == 1 and "img" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert seen.text.count("alert(1)") >= 6  # name, note, refusal, diff, row, answers: as text
    assert "\\u0000\\u001b[31m" in seen.text and not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", shown)
    assert not [
        value for name, value in seen.attributes if name in ("src", "href") and not value.startswith(("#", "data:,"))
    ]
    policy = next(value for name, value in seen.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_a_candidate_shows_its_layout(run) -> None:
    laid = Candidate(layouts={"ask": {"system": "{{ instructions }}", "user": "Q: {{ text }}"}})
    shown = page(run(*SEARCH[:3], finished(f"1-gepa/candidate/{laid.digest}", candidate(0.4, 20, laid, START))))
    assert "ask: layout" in shown and "+Q: {{ text }}" in shown and "b/modules.ask.prompt" in shown


def test_what_is_no_run_says_so(run, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"there is no run in .*: it has no journal\.jsonl; name a folder that `optimize`"
    ):
        page(tmp_path)
    for line in ("[1]", '{"event": "finished"}', "nonsense"):
        (tmp_path / "journal.jsonl").write_text(f"{line}\n")
        with pytest.raises(UsageError, match="cannot be read as the journal of a run"):
            page(tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (0.03, 0.41, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (-0.008, 0.0, [-0.008, -0.006, -0.004, -0.002, 0.0]),
        (5.0, 5.0, [2.0, 4.0, 6.0, 8.0]),
    ],
)
def test_ticks_are_round_and_reach_beyond_the_values(low: float, high: float, found: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(found)


def test_a_chart_keeps_its_points_between_its_axes() -> None:
    points = [Point(1, 0.2, "", 0.1, 0.4), Point(5, 0.9, "", 0.7, 1.0)]
    chart = Chart("t", "step", [Series("s", points)], percent=True)
    left, right, top, bottom = chart.frame
    assert (chart.x(1), chart.x(5)) == (left, right) and top <= chart.y(1.0) < chart.y(0.1) <= bottom
    assert chart.across_ticks == [1, 2, 3, 4, 5]
    assert chart.label(0.25) == "25%"
    assert chart.line(chart.series[0]).startswith("M") and chart.band(chart.series[0]).endswith("Z")
    single = Chart("t", "step", [Series("s", points[:1])])
    assert left < single.x(1) < right and single.band(single.series[0]) == ""


@pytest.mark.parametrize("values", [[0.0, 1e-15], [0.3, 0.1 + 0.2], [3e-17], [0.0], [-1e-300, 1e-300], [1e9, 1e9 + 1]])
def test_values_that_hardly_differ_have_a_chart(values: list[float]) -> None:
    chart = Chart("t", "step", [Series("s", [Point(place, value, "") for place, value in enumerate(values)])])
    _, _, top, bottom = chart.frame
    assert all(top <= chart.y(value) <= bottom for value in values)
    assert chart.up_ticks[0] <= min(values) <= max(values) <= chart.up_ticks[-1]


def test_best_so_far_is_drawn_in_stairs() -> None:
    series = Series("best", [Point(0, 0.0, "", 0.0, 0.0), Point(1, 1.0, "", 1.0, 1.0)], "steps")
    chart = Chart("t", "trials", [series])
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+V[\d.]+", chart.line(series))
