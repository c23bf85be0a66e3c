"""Programs as Python sees them: calls, map, stream, inputs, candidates, replaced LMs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lmprog
from lmprog import BudgetExceeded, Completion, ProviderError, SpecError, UsageError
from lmprog.aio.loops import run_async
from lmprog.optimizers.candidate import Candidate
from lmprog.runtime.change import laid_over
from lmprog.runtime.program import MAX_LOOKAHEAD
from lmprog.scoring.trace_scope import trace_of

ECHO = """
    inputs: {text: str}
    outputs: {reply: "${{ steps.echo.reply }}"}
    vars: {labels: [x, y]}
    modules:
      echo: {lm: lm, inputs: {text: str}, outputs: {reply: str}, instructions: Echo.}
      sort: {lm: lm, inputs: {text: str}, outputs: {label: {enum: "${{ vars.labels }}"}}}
    steps:
      echo: {module: echo, with: {text: "${{ inputs.text }}"}}
      sort: {module: sort, when: "inputs.text == 'sort'", with: {text: "${{ inputs.text }}"}}
"""


def said(request: Any) -> str:
    return str(request.messages[-1]["content"])


@pytest.fixture
def echo(program, scripted) -> lmprog.Program:
    return program(ECHO, scripted(said))


def test_a_call_gives_outputs_and_trace(echo) -> None:
    result = echo(text="hello")
    assert (result.outputs, result.error) == ({"reply": "hello"}, None)
    assert [(made.module, made.text) for made in result.trace] == [("echo", "hello")]


def test_acall_within_a_loop(echo) -> None:
    async def both() -> list[Any]:
        return await asyncio.gather(echo.acall(text="a"), echo.acall(text="b"))

    assert [result.outputs["reply"] for result in asyncio.run(both())] == ["a", "b"]


def test_a_call_within_a_running_loop_as_in_a_notebook(echo) -> None:
    async def cell() -> Any:
        return echo(text="a").outputs, [result.outputs for result in echo.map([{"text": "b"}])]

    assert asyncio.run(cell()) == ({"reply": "a"}, [{"reply": "b"}])


def test_an_error_within_a_running_loop_is_raised_as_elsewhere(echo) -> None:
    async def cell() -> None:
        echo(text=3)

    with pytest.raises(UsageError, match="the input 'text': 3 is not a value of type str"):
        asyncio.run(cell())


def test_run_async_gives_back_what_is_raised() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_async(fails)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the input 'text' (str) is missing"),
        ({"text": None}, "the input 'text': null is not a value of type str"),
        ({"text": "a", "txt": "b"}, "program has no input 'txt'; its inputs are text"),
    ],
)
def test_wrong_inputs(echo, inputs, message) -> None:
    with pytest.raises(UsageError) as caught:
        echo(**inputs)
    assert str(caught.value) == message
    assert caught.value.exit_status == 2


def test_defaults_and_optional_inputs(program, scripted) -> None:
    spec = """
        inputs: {a: {type: str, default: one}, b: "str?"}
        outputs: {both: "${{ inputs.a }}", b: "${{ inputs.b }}"}
        steps: {nothing: {value: "${{ inputs.a }}"}}
    """
    assert program(spec)().outputs == {"both": "one", "b": None}
    assert program(spec)(a="two", b="x").outputs == {"both": "two", "b": "x"}


def test_map_keeps_the_order_and_the_errors(program, scripted) -> None:
    lm = scripted(
        lambda request: ProviderError("down") if said(request) == "2" else said(request),
        delay=lambda request: 0.05 - 0.01 * int(said(request)),
    )
    results = program(ECHO, lm).map([{"text": str(index), "label": "unused"} for index in range(4)] + [{}])
    assert [result.outputs and result.outputs["reply"] for result in results] == ["0", "1", None, "3", None]
    assert [result.error and (result.error.kind, str(result.error)) for result in results] == [
        None,
        None,
        ("provider", "echo: down"),
        None,
        ("input", "inputs: the input 'text' (str) is missing"),
    ]
    assert [made.example for result in results for made in result.trace] == [0, 1, 2, 3]


def test_map_runs_as_many_rows_at_a_time_as_it_may(program, scripted) -> None:
    lm = scripted(said, delay=0.01)
    program(ECHO, lm).map([{"text": "a"}] * 10, concurrency=3)
    assert lm.most_active == 3


def test_stream_takes_no_more_rows_than_its_window(program, scripted) -> None:
    lm, taken = scripted(said), []

    def rows() -> Iterator[dict[str, str]]:
        for index in range(50):
            taken.append(index)
            yield {"text": str(index)}

    async def run() -> None:
        given = 0
        async for result in program(ECHO, lm).stream(rows(), concurrency=4):
            assert result.outputs == {"reply": str(given)}
            given += 1
            assert len(taken) - given <= MAX_LOOKAHEAD * 4 + 1
        assert given == 50

    asyncio.run(run())


def test_a_slow_row_holds_up_no_more_than_its_own_result(program, scripted) -> None:
    class Slow:
        """Answers the first row when the last has been asked."""

        last = asyncio.Event()

        async def complete(self, request: Any) -> lmprog.Completion:
            if said(request) == "15":
                self.last.set()
            if said(request) == "0":
                await asyncio.wait_for(self.last.wait(), 60)
            return await lm.complete(request)

    lm = scripted(said)
    results = program(ECHO, Slow()).map([{"text": str(index)} for index in range(16)], concurrency=2)
    assert [result.outputs["reply"] for result in results] == [str(index) for index in range(16)]
    assert said(lm.requests[-1]) in ("0", "15")


@pytest.mark.slow
def test_a_long_stream_takes_constant_memory(program) -> None:
    class AtOnce:
        async def complete(self, request: lmprog.Request) -> lmprog.Completion:
            return lmprog.Completion("x" * 1000)

    async def run(count: int) -> int:
        tracemalloc.start()
        made = program(ECHO, AtOnce())
        async for result in made.stream({"text": str(index)} for index in range(count)):
            assert result.error is None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    asyncio.run(run(100))  # imports what a first run imports
    few, many = asyncio.run(run(2_000)), asyncio.run(run(20_000))
    assert many < 1.5 * few + 2**18


def test_a_stream_that_is_left_leaves_no_task(program, scripted) -> None:
    lm = scripted(said, delay=lambda request: 0 if said(request) == "0" else 30)

    async def run() -> None:
        stream = program(ECHO, lm).stream([{"text": str(index)} for index in range(5)], concurrency=3)
        async for result in stream:
            assert result.outputs == {"reply": "0"}
            break
        await stream.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert lm.active == 0


def test_a_spent_budget_ends_everything(program, scripted) -> None:
    lm = scripted(
        lambda request: BudgetExceeded("spent") if said(request) == "1" else "ok",
        delay=lambda request: 0.01 if said(request) == "1" else 30 * (said(request) != "0"),
    )

    async def run() -> None:
        with pytest.raises(BudgetExceeded, match="spent"):
            async for _ in program(ECHO, lm).stream([{"text": str(index)} for index in range(5)], concurrency=3):
                pass
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert lm.active == 0


def test_a_stream_counts_rows_by_their_numbers(echo) -> None:
    async def run() -> list[int | str]:
        return [result.trace[0].example async for result in echo.stream([{"text": "a"}] * 2, numbers=(7, 9))]

    assert asyncio.run(run()) == [7, 9]


def test_with_candidate_gives_another_program(echo) -> None:
    changed = echo.with_candidate(Candidate(instructions={"echo": "Shout."}))
    assert echo.plan.modules["echo"].instructions == "Echo."
    assert changed.plan.modules["echo"].instructions == "Shout."
    assert changed.lms is echo.lms
    assert "Shout." in str(changed(text="a").trace[0].messages)
    assert "Echo." in str(echo(text="a").trace[0].messages)
    with pytest.raises(AttributeError):
        changed.plan = echo.plan  # type: ignore[misc]


def test_candidates_compose(echo) -> None:
    demos = [{"text": "a", "label": "x"}]
    both = echo.with_candidate(Candidate(instructions={"sort": "Sort."}, demos={"sort": demos}))
    after = both.with_candidate(Candidate(instructions={"echo": "Shout."})).with_candidate(
        Candidate(demos={"sort": [{"text": "b", "label": "y"}]})
    )
    sort = after.plan.modules["sort"]
    assert (sort.instructions, sort.demos) == ("Sort.", ({"text": "b", "label": "y"},))
    assert after.plan.modules["echo"].instructions == "Shout."
    assert both.plan.modules["sort"].demos == tuple(demos)


def test_a_candidate_that_breaks_a_check_is_refused(echo) -> None:
    with pytest.raises(SpecError) as caught:
        echo.with_candidate(Candidate(demos={"sort": [{"text": "a", "label": "z"}]}))
    assert [finding.code for finding in caught.value.findings if finding.severity == "error"] == ["LMP203"]
    assert "candidate" in str(caught.value)


def test_overlays_merge_key_by_key() -> None:
    below = {"modules": {"a": {"demos": [1, 2]}}, "lms": {"x": 1}}
    above = {"modules": {"a": {"demos": [3]}, "b": {"instructions": "w"}}}
    assert laid_over(below, above) == {
        "modules": {"a": {"demos": [3]}, "b": {"instructions": "w"}},
        "lms": {"x": 1},
    }
    assert below == {"modules": {"a": {"demos": [1, 2]}}, "lms": {"x": 1}}


def test_load_refuses_an_lm_that_the_program_does_not_have(write: Callable[..., Path], scripted) -> None:
    path = write("lmprog: 1\ninputs: {a: str}\noutputs: {a: '${{ inputs.a }}'}\nsteps: {s: {value: '${{ inputs.a }}'}}")
    with pytest.raises(UsageError, match="has no LM 'student'"):
        lmprog.load(path, lms={"student": scripted(said)})


def test_load_raises_the_findings(write: Callable[..., Path]) -> None:
    with pytest.raises(SpecError) as caught:
        lmprog.load(write("lmprog: 1\nmodles: {}\n"))
    assert any("modles" in finding.message for finding in caught.value.findings)


def test_an_lm_can_be_replaced_in_a_program(echo, scripted) -> None:
    assert echo.with_lms({"lm": scripted(lambda request: "other")})(text="a").outputs == {"reply": "other"}
    assert echo(text="a").outputs == {"reply": "a"}


def test_a_replaced_lm_needs_neither_key_nor_litellm(write: Callable[..., Path]) -> None:
    spec = write(
        """
        lmprog: 1
        lms: {lm: {model: openai/gpt-4.1-mini, api_key: "${{ env.NO_SUCH_KEY }}"}}
        modules:
          echo: {lm: lm, inputs: {text: str}, outputs: {reply: str}}
        """
    )
    code = f"""
import sys, lmprog
class Echo:
    async def complete(self, request):
        return lmprog.Completion(text="hi")
assert lmprog.load({str(spec)!r}, lms={{"lm": Echo()}})(text="a").outputs == {{"reply": "hi"}}
heavy = {{"torch", "litellm", "transformers", "scipy", "optuna"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_import_lmprog_imports_nothing_heavy() -> None:
    code = """
import sys, lmprog
for name in ("torch", "litellm", "transformers", "trl", "peft", "scipy", "optuna", "numpy", "jinja2", "pydantic"):
    assert name not in sys.modules, name
assert set(lmprog.__all__) <= set(dir(lmprog))
for name in lmprog.__all__:
    assert getattr(lmprog, name) is not None
for name in ("torch", "litellm", "transformers", "trl", "peft"):
    assert name not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_of_the_package() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lmprog.nothing  # noqa: B018


def test_an_lm_is_made_anew_where_one_that_answers_in_its_place_has_another_model(write) -> None:
    path = write("""
        lmprog: 1
        lms:
          small: {model: openai/small}
          large: {model: openai/large, fallback: [small]}
          other: {model: openai/other}
        modules: {ask: {lm: large, inputs: {text: str}, outputs: {reply: str}}}
    """)
    before = lmprog.load(path)
    overlay = {"lms": {"small": {"model": "openai/tuned"}}}
    after = before.with_candidate(SimpleNamespace(as_overlay=lambda: overlay))
    assert {id: after.lms[id] is lm for id, lm in before.lms.items()} == {"small": False, "large": False, "other": True}
    assert after.lms["large"].declared.answering[1].model == "openai/tuned"


def test_a_trace_counts_replies_that_ended_at_their_limit_by_any_providers_word(program, scripted) -> None:
    made = program(
        "modules: {ask: {inputs: {text: str}, outputs: {reply: str}, format: json}}",
        scripted(lambda request: Completion(text='{"reply": "a"}', finish_reason="MAX_TOKENS")),
    )
    result = asyncio.run(made.run({"text": "a"}))
    assert trace_of(made.plan, result.records)["cut"] == 1
