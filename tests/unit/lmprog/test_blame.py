"""Each kind of failure on its side of the rule: own ones score lowest and are counted, outages are tried again and left out."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
import urllib.error
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmprog
from lmprog import InfrastructureError, ProviderError, evaluate
from lmprog.blame import OUTAGES, Kind, connection_failed, exit_status, is_outage, is_own, passing, too_many_outages
from lmprog.errors import BudgetExceeded
from lmprog.failure import Failure
from lmprog.runtime.result import Result, RunError
from lmprog.scoring.evaluation import RowScore, Scores
from lmprog.scoring.metrics import MetricFailed
from lmprog.scoring.rerun import AGAIN, run_again
from lmprog.serving.refusals import KINDS

OWN = sorted(set(get_args(Kind)) - OUTAGES - {"cancelled"})

FILES = """
import socket, time
import lmprog

def tool(text: str) -> str:
    if text.startswith("raise"):
        raise ValueError("bad text")
    if text.startswith("down"):
        raise ConnectionRefusedError("nobody is there")
    if "slow" in text:
        time.sleep(0.5)
    return text

def word(text: str) -> str:
    return text

def metric(found: str, wanted: str) -> float:
    if "metric raises" in found:
        raise ValueError("no such thing")
    if "metric exits" in found:
        raise SystemExit(3)
    if "metric nan" in found:
        return float("nan")
    if "metric says" in found:
        raise lmprog.InfrastructureError("its server is closed")
    if "judge down" in found:
        try:
            raise socket.gaierror("no such name")
        except OSError as error:
            raise RuntimeError("no answer") from error
    return -1.0 if found != wanted else 1.0
"""
SPEC = """
    name: desk
    inputs: {text: str}
    outputs: {found: "${{ steps.use.found }}"}
    tools: {use: {python: "./files.py:tool", result: found}, word: {python: "./files.py:word", result: same}}
    modules:
      ask: {lm: lm, format: text, inputs: {text: str}, outputs: {reply: str}}
      pick: {lm: lm, format: text, inputs: {text: str}, outputs: {label: {enum: [a, b]}}}
      show: {lm: lm, format: text, inputs: {xs: "list[str]"}, outputs: {reply: str}, prompt: {user: "{{ xs[0] }}"}}
    steps:
      ask: {module: ask, with: {text: "${{ inputs.text }}"}}
      pick:
        module: pick
        when: "${{ startswith(steps.ask.reply, 'pick') }}"
        with: {text: "${{ steps.ask.reply }}"}
      show:
        module: show
        when: "${{ startswith(steps.ask.reply, 'template') }}"
        with: {xs: "${{ split(replace(steps.ask.reply, 'template', '')) }}"}
      number:
        value: "${{ int(steps.ask.reply) }}"
        when: "${{ startswith(steps.ask.reply, 'expression') }}"
      each: {foreach: "${{ split(steps.ask.reply) }}", at_most: 4, tool: word, with: {text: "${{ item }}"}}
      wait:
        tool: use
        timeout: 0.05
        when: "${{ startswith(steps.ask.reply, 'slow') }}"
        with: {text: "${{ steps.ask.reply }}"}
      use: {tool: use, with: {text: "${{ steps.ask.reply }}"}}
    data: {dev: dev.jsonl}
    metrics:
      good:
        python: ./files.py:metric
        with: {found: "${{ outputs.found }}", wanted: "${{ row.wanted }}"}
        range: [-1, 1]
"""


def answer(request: Any) -> Any:
    text = str(request.messages[-1]["content"]).split("\n")[-1]
    return ProviderError("nobody answers") if "provider" in text else text


@pytest.fixture
def desk(program, scripted, write) -> lmprog.Program:
    write('{"text": "a", "wanted": "a"}\n', "dev.jsonl")
    made: lmprog.Program = program(SPEC, scripted(answer), files__py=FILES)
    return made


ROWS: list[tuple[str, str | None]] = [
    ("fine", None),
    ("pick neither", "unreadable"),
    ("template", "template"),
    ("raise it", "tool"),
    ("expression", "expression"),
    ("one two three four five", "limit"),
    ("slow", "timeout"),
    ("metric raises", "metric"),
    ("metric exits", "metric"),
    ("metric nan", "metric"),
    ("provider", "provider"),
    ("down", "connection"),
    ("judge down", "connection"),
    ("metric says so", "connection"),
]


def test_each_kind_is_scored_by_the_rule_and_counted(desk) -> None:
    rows: list[dict[str, Any]] = [{"text": text, "wanted": "fine"} for text, _ in ROWS] + [{"wanted": "no input"}]
    scores = evaluate(desk, rows, "good")
    kinds = [*(kind for _, kind in ROWS), "input"]
    assert [(row.kind, row.value) for row in scores.rows] == [
        (kind, 1.0 if kind is None else None if is_outage(kind) else -1.0) for kind in kinds
    ]
    assert set(kinds) - {None} == set(get_args(Kind)) - {"cancelled"}
    assert {kind: count for kind, (count, _) in scores.causes.items()} == {"provider": 1, "connection": 3}
    assert {kind: count for kind, (count, _) in scores.failures.items()} == {
        kind: 3 if kind == "metric" else 1 for kind in OWN
    }
    assert len(scores.errors) == scores.outages.rows == 4 and scores.outages.of == 15 and scores.outages.too_many
    assert all(row.cause and row.as_json()["error"] == row.cause for row in scores.rows if row.kind is not None)
    again = Scores.of_values("good", scores.kept, kinds)
    assert (again.outages, again.by_row, again.estimate) == (scores.outages, scores.by_row, scores.estimate)
    assert {kind: count for kind, (count, _) in again.failures.items()} == {
        kind: count for kind, (count, _) in scores.failures.items()
    }


def test_each_kind_has_an_owner_an_exit_status_and_a_line_in_the_docs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "failures.md").read_text(encoding="utf-8")
    lines = page.split("## What Python raises")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    written = {re.findall(r"`(\w+)`", cells[0])[0]: cells for cells in rows}
    assert set(written) == set(get_args(Kind)) - {"cancelled"}
    for kind, cells in written.items():
        assert is_own(kind) != is_outage(kind)
        assert cells[2] == ("outage" if is_outage(kind) else "own")
        assert cells[5] == str(exit_status([kind]))
    assert not is_own(None) and not is_outage(None) and exit_status([]) == 0
    assert (exit_status(["tool", "provider"]), exit_status(["tool", "input"])) == (3, 2)
    assert all(KINDS[kind][0] == 503 for kind in OUTAGES)


class Answered(Exception):
    """An exception of an HTTP client that keeps the status of the answer."""

    def __init__(self, **known: Any) -> None:
        super().__init__("the server answered")
        vars(self).update(known)


def raised(error: BaseException, cause: BaseException | None = None, *, hidden: bool = False) -> BaseException:
    """The error as it is after it was raised while `cause` was handled."""
    try:
        try:
            raise cause or ValueError
        except BaseException:
            if hidden:
                raise error from None
            raise error  # noqa: B904
    except BaseException as found:
        return found


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        ConnectionResetError("reset"),
        BrokenPipeError("cut"),
        socket.gaierror("no such name"),
        ssl.SSLError("handshake"),
        OSError(errno.EHOSTUNREACH, "no route"),
        TimeoutError(errno.ETIMEDOUT, "the connection timed out"),
        aiohttp.ConnectionTimeoutError("not made in time"),
        raised(RuntimeError("no answer"), type("ConnectTimeout", (OSError,), {})("as of httpx and requests")),
        InfrastructureError("the author says so"),
        ProviderError("an LM"),
        RunError(Result(None, (), Failure("connection", "of a program that the tool runs", "use"))),
        raised(RuntimeError("no answer"), ConnectionRefusedError("refused")),
        raised(RuntimeError("no answer"), raised(OSError("cut"), ConnectionResetError("reset"))),
        raised(urllib.error.URLError("refused"), ConnectionRefusedError("refused")),
        Answered(status_code=503),
        Answered(status=500),
        Answered(response=SimpleNamespace(status_code=429)),
        urllib.error.HTTPError("http://x", 502, "bad gateway", {}, None),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_connection_that_fails_is_an_outage(error) -> None:
    assert connection_failed(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad text"),
        TimeoutError("the query took too long"),
        aiohttp.SocketTimeoutError("no answer in time"),
        OSError(errno.ENOENT, "no such file"),
        SystemExit(503),
        Answered(status_code=400),
        Answered(response=SimpleNamespace(status_code=404)),
        Answered(status="503"),
        Answered(status_code=True),
        raised(ValueError("bad text"), ConnectionResetError("seen to"), hidden=True),
        MetricFailed("no number"),
        RunError(Result(None, (), Failure("tool", "of a program that the tool runs", "use"))),
    ],
    ids=repr,
)
def test_any_other_exception_is_the_programs_own(error) -> None:
    assert not connection_failed(error)


@pytest.mark.parametrize(
    ("status", "outage"), [(400, False), (404, False), (422, False), (408, True), (429, True), (500, True)]
)
def test_a_status_says_whose_failure_it_is(status: int, outage: bool) -> None:
    assert passing(status) == outage


@pytest.mark.parametrize(
    ("lost", "rows", "many"),
    [(0, 0, False), (0, 3, False), (1, 20, False), (1, 19, True), (3, 60, False), (4, 60, True)],
)
def test_more_than_a_twentieth_is_too_many(lost: int, rows: int, many: bool) -> None:
    assert too_many_outages(lost, rows) == many


def lost(row: int) -> RowScore:
    return RowScore(row, 0, None, Result(None, ()), cause="down", kind="provider")


@pytest.mark.slow
@given(st.lists(st.integers(0, 4), max_size=6), st.booleans(), st.integers(1, 3))
def test_a_lost_run_is_made_again_a_bounded_number_of_times(needs: list[int], others: bool, together: int) -> None:
    """Run number i has a score from its `needs[i]`-th turn on; 0 and 1 both mean the first."""
    made = [0] * len(needs)

    async def run(place: int, before: RowScore) -> RowScore:
        made[before.row] += 1
        found = made[before.row] >= needs[before.row]
        return RowScore(before.row, 0, 1.0, Result(None, ())) if found else before

    found = asyncio.run(run_again([lost(row) for row in range(len(needs))], run, together=together, others=others))
    assert [each.row for each in found] == list(range(len(needs)))
    if needs and not others and needs[0] > 1:
        assert made == [1] + [0] * (len(needs) - 1)  # the first says that nothing answers
    else:
        assert [each.value is not None for each in found] == [need <= AGAIN for need in needs]
        assert made == [min(max(need, 1), AGAIN) for need in needs]


def test_a_budget_that_is_spent_leaves_what_is_lost() -> None:
    async def run(place: int, before: RowScore) -> RowScore:
        raise BudgetExceeded("spent")

    (found,) = asyncio.run(run_again([lost(0)], run, together=1, others=True))
    assert found.value is None


def test_a_row_that_an_outage_ended_is_run_again_after_the_others(desk, scripted) -> None:
    down = [2]

    def answer(request: Any) -> Any:
        text = str(request.messages[-1]["content"])
        if "b" in text and down[0]:
            down[0] -= 1
            return ProviderError("nobody answers")
        return text

    lm = scripted(answer)
    seen: list[int] = []
    rows = [{"text": text, "wanted": text} for text in "abc"]
    scores = evaluate(desk.with_lms({"lm": lm}), rows, "good", on_row=lambda row: seen.append(row.row), concurrency=1)
    assert (scores.errors, scores.mean, seen) == ([], 1.0, [0, 2, 1])
    assert len({request.seed for request in lm.requests}) == 3  # the same draw as before
    assert scores.usage.lm_calls == 5 and len(scores.rows[1].result.records) == 3


def test_where_nothing_answers_one_row_is_tried_again(desk, scripted) -> None:
    lm = scripted(lambda request: ProviderError("nobody answers"))
    with pytest.raises(ProviderError, match="no row could be scored: ask: nobody answers"):
        _ = evaluate(desk.with_lms({"lm": lm}), [{"text": "a", "wanted": "a"}] * 5, "good").mean
    assert len(lm.requests) == 6


def test_a_metric_that_raises_on_every_row_says_where(desk) -> None:
    rows = [{"text": "metric raises", "wanted": "a"}, {"text": "provider", "wanted": "a"}]
    scores = evaluate(desk, rows, "good")
    with pytest.raises(
        MetricFailed, match=r"no row could be scored: .* raised ValueError: no such thing \(files.py:18\)"
    ):
        scores.checked()
    assert scores.mean == -1.0  # of a candidate it is just the lowest
    assert evaluate(desk, [*rows, {"text": "raise it", "wanted": "a"}], "good").checked().mean == -1.0


def test_a_step_is_late_by_what_it_waits_for(program, scripted) -> None:
    """A reply that does not come in time is the provider's; a tool that takes too long with it is the program's own."""
    spec = SPEC.replace("ask: {module: ask, with", "ask: {module: ask, timeout: 0.1, with")
    slow = program(spec, scripted(answer, delay=5), files__py=FILES)
    assert slow.map([{"text": "a"}])[0].error.kind == "provider"
    quick = program(SPEC, scripted(answer), files__py=FILES)
    assert quick.map([{"text": "slow"}])[0].error.kind == "timeout"


def test_a_run_that_may_have_changed_something_is_not_made_again(program, scripted, write) -> None:
    write('{"text": "a"}\n', "dev.jsonl")
    spec = """
        inputs: {text: str}
        outputs: {found: "${{ steps.ask.reply }}"}
        tools: {send: {python: "./files.py:send", result: sent, effects: EFFECTS}}
        modules: {ask: {lm: lm, format: text, inputs: {text: str, sent: bool}, outputs: {reply: str}}}
        steps:
          send: {tool: send, with: {text: "${{ inputs.text }}"}}
          ask: {module: ask, with: {text: "${{ inputs.text }}", sent: "${{ steps.send.sent }}"}}
        data: {dev: dev.jsonl}
        metrics: {any: {value: "${{ 1.0 }}"}}
    """
    sends = "def send(text: str) -> bool:\n    open(__file__ + '.sent', 'a').write(text)\n    return True\n"
    rows = [{"text": "a"}, {"text": "b"}]

    def down(request: Any) -> Any:
        return ProviderError("nobody answers") if "b" in str(request.messages[-1]["content"]) else "fine"

    for effects, sent in (("write", "ab"), ("read", "ab" + AGAIN * "b")):
        made = program(spec.replace("EFFECTS", effects), scripted(down), files__py=sends)
        scores = evaluate(made, rows, "any", concurrency=1, allow_writes=True)
        file = made.plan.path.with_name("files.py.sent")
        assert (len(scores.errors), file.read_text()) == (1, sent)
        file.unlink()
