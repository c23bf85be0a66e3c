"""The executor: order, parallel steps, conditions, loops, indices, seeds, retries, failures, timeouts, sub-programs."""

from __future__ import annotations

import asyncio
from itertools import chain, repeat
from typing import Any

import pytest

from lmprog import Completion, ProviderError, RunError
from lmprog.failure import CANCELLED
from lmprog.runtime.options import RunOptions


def said(request: Any) -> str:
    """The words of the last turn."""
    return str(request.messages[-1]["content"])


PAIR = """
    inputs: {text: str}
    outputs: {both: "${{ steps.join.value }}"}
    modules:
      echo: {lm: lm, inputs: {text: str}, outputs: {reply: str}}
    steps:
      one: {module: echo, with: {text: "${{ inputs.text + '1' }}"}}
      two: {module: echo, with: {text: "${{ inputs.text + '2' }}"}}
      join: {value: "${{ steps.one.reply + steps.two.reply }}"}
"""
CHAIN = """
    inputs: {text: str}
    outputs: {reply: "${{ steps.third.reply }}"}
    modules:
      echo: {lm: lm, inputs: {text: str}, outputs: {reply: str}}
    steps:
      third: {module: echo, with: {text: "${{ steps.second.reply }}"}}
      second: {module: echo, with: {text: "${{ steps.first.reply }}"}}
      first: {module: echo, with: {text: "${{ inputs.text }}"}}
"""


def test_steps_that_do_not_depend_on_each_other_run_at_the_same_time(program, scripted) -> None:
    together = asyncio.Barrier(2)

    class BothOrNone:
        async def complete(self, request: Any) -> Completion:
            async with asyncio.timeout(60):
                await together.wait()
            return Completion(text=said(request))

    assert program(PAIR, BothOrNone())(text="a").outputs == {"both": "a1a2"}


def test_a_step_runs_after_what_it_reads_wherever_it_is_written(program, scripted) -> None:
    lm = scripted(lambda request: said(request) + "!", delay=0.01)
    assert program(CHAIN, lm)(text="a").outputs == {"reply": "a!!!"}
    assert lm.most_active == 1


def test_needs_orders_steps_without_data(program, scripted) -> None:
    lm = scripted(said, delay=lambda request: 0.05 if said(request).endswith("1") else 0.0)
    ordered = PAIR.replace("inputs.text + '2' }}\"}}", "inputs.text + '2' }}\"}, needs: [one]}")
    program(ordered, lm)(text="a")
    assert lm.most_active == 1
    assert [said(request) for request in lm.requests] == ["a1", "a2"]


@pytest.mark.parametrize("slow", ["1", "2"])
def test_call_indices_are_in_the_order_of_the_plan_whatever_finishes_first(program, scripted, slow) -> None:
    lm = scripted(said, delay=lambda request: 0.05 if said(request).endswith(slow) else 0.0)
    trace = program(PAIR, lm)(text="a").trace
    assert [(made.path, made.call, made.text) for made in trace] == [("one", 0, "a1"), ("two", 1, "a2")]


CONDITIONAL = """
    inputs: {text: str, ask: bool}
    outputs: {reply: "${{ steps.maybe.reply }}", last: "${{ steps.last.reply }}"}
    modules:
      echo: {lm: lm, inputs: {text: str}, outputs: {reply: str}}
    steps:
      maybe:
        module: echo
        when: inputs.ask
        with: {text: "${{ inputs.text }}"}
        else: {reply: "${{ 'not ' + inputs.text }}"}
      last: {module: echo, with: {text: "${{ steps.maybe.reply }}"}}
"""


def test_when_and_else(program, scripted) -> None:
    conditional = program(CONDITIONAL, scripted(said))
    assert conditional(text="a", ask=True).outputs == {"reply": "a", "last": "a"}
    result = conditional(text="a", ask=False)
    assert result.outputs == {"reply": "not a", "last": "not a"}
    assert [(made.path, made.call) for made in result.trace] == [("last", 0)]


def test_a_skipped_step_without_else_gives_nothing(program, scripted) -> None:
    without = CONDITIONAL.replace("        else: {reply: \"${{ 'not ' + inputs.text }}\"}\n", "").replace(
        '"${{ steps.maybe.reply }}"}}', '"${{ inputs.text }}"}}'
    )
    assert program(without, scripted(said))(text="a", ask=False).outputs == {"reply": None, "last": "a"}


LOOP = """
    inputs: {text: str}
    outputs:
      {list: "${{ steps.loop.list }}", flat: "${{ steps.loop.flat }}", last: "${{ steps.loop.last }}"}
    modules:
      echo: {lm: lm, inputs: {text: str}, outputs: {reply: str}}
      parts: {lm: lm, inputs: {text: str}, outputs: {words: "list[str]"}}
    steps:
      loop:
        repeat: {until: "len(state.list) >= 2", at_most: 5}
        state:
          list: {type: "list[str]", start: []}
          flat: {type: "list[str]", start: [start]}
          last: {type: str, start: "${{ inputs.text }}"}
        steps:
          say: {module: echo, when: not loop.first, with: {text: "${{ state.last }}"}}
          cut: {module: parts, with: {text: "${{ state.last }}"}}
        next:
          list: {append: "${{ steps.say.reply }}"}
          flat: {extend: "${{ steps.cut.words }}"}
          last: {set: "${{ state.last + '.' }}"}
"""


def loop_answer(request: Any) -> str:
    return '["x", "y"]' if "JSON" in str(request.messages[0]["content"]) else f"<{said(request)}>"


def test_a_loop_appends_extends_and_sets_until(program, scripted) -> None:
    result = program(LOOP, scripted(loop_answer))(text="a")
    assert result.outputs == {
        "list": ["<a.>", "<a..>"],
        "flat": ["start", "x", "y", "x", "y", "x", "y"],
        "last": "a...",
    }


def test_indices_in_a_loop_with_a_skipped_step(program, scripted) -> None:
    lm = scripted(loop_answer, delay=lambda request: 0.01 if "JSON" in str(request.messages[0]["content"]) else 0.03)
    trace = program(LOOP, lm)(text="a").trace
    assert [(made.path, made.module, made.call) for made in trace] == [
        ("loop[0].cut", "parts", 0),
        ("loop[1].say", "echo", 0),
        ("loop[1].cut", "parts", 1),
        ("loop[2].say", "echo", 1),
        ("loop[2].cut", "parts", 2),
    ]


def test_a_loop_ends_at_its_bound(program, scripted) -> None:
    bounded = LOOP.replace("at_most: 5", "at_most: 1")
    assert program(bounded, scripted(loop_answer))(text="a").outputs["last"] == "a."


EACH = """
    inputs: {texts: "list[str]"}
    outputs: {replies: "${{ steps.each.reply }}"}
    modules:
      echo: {lm: lm, inputs: {text: str}, outputs: {reply: str}}
    steps:
      each:
        module: echo
        foreach: ${{ inputs.texts }}
        at_most: 4
        max_parallel: 2
        with: {text: "${{ item }}"}
"""


def test_foreach_keeps_the_order_of_its_input(program, scripted) -> None:
    lm = scripted(said, delay=lambda request: 0.04 - 0.01 * int(said(request)))
    result = program(EACH, lm)(texts=["0", "1", "2", "3"])
    assert result.outputs == {"replies": ["0", "1", "2", "3"]}
    assert [(made.path, made.call) for made in result.trace] == [(f"each[{i}]", i) for i in range(4)]
    assert lm.most_active == 2


def test_foreach_over_more_than_at_most_is_a_failure(program, scripted) -> None:
    with pytest.raises(RunError, match="each: 5 items, more than at_most: 4"):
        program(EACH, scripted(said))(texts=list("01234"))


def seeds(result: Any) -> list[int]:
    return [made.seed for made in result.trace]


def test_seeds_are_equal_for_an_equal_place_and_differ_otherwise(program, scripted) -> None:
    pair = program(PAIR, scripted(said))

    def run(example: int, **options: Any) -> list[int]:
        return seeds(asyncio.run(pair.run({"text": "a"}, example=example, options=RunOptions(**options))))

    assert run(0) == run(0)
    drawn = [seed for found in (run(0), run(1), run(0, seed=1), run(0, rollout=1)) for seed in found]
    assert len(set(drawn)) == 8
    assert all(0 <= seed < 2**63 for seed in drawn)


RETRIED = """
    inputs: {text: str}
    outputs: {number: "${{ steps.ask.number }}", more: "${{ steps.again.number }}"}
    modules:
      count: {lm: lm, inputs: {text: str}, outputs: {number: int}, retry: 2}
    steps:
      ask: {module: count, with: {text: "${{ inputs.text }}"}}
      again: {module: count, needs: [ask], with: {text: "${{ inputs.text }}"}}
"""


def test_an_unreadable_reply_is_asked_again_and_shares_its_index(program, scripted) -> None:
    replies = iter(["many", "some", "7", "8"])
    lm = scripted(lambda request: next(replies))
    result = program(RETRIED, lm)(text="a")
    assert result.outputs == {"number": 7, "more": 8}
    assert [(made.path, made.call, made.attempt, made.text, made.outputs) for made in result.trace] == [
        ("ask", 0, 0, "many", None),
        ("ask", 0, 1, "some", None),
        ("ask", 0, 2, "7", {"number": 7}),
        ("again", 1, 0, "8", {"number": 8}),
    ]
    assert len(set(seeds(result))) == 4
    assert result.trace[0].error == "number: 'many' is not a whole number"
    first, second = (made.messages for made in result.trace[:2])
    assert second[: len(first)] == first
    assert second[len(first) :] == (
        {"role": "assistant", "content": "many"},
        {
            "role": "user",
            "content": "That reply cannot be read: number: 'many' is not a whole number. Reply again, as asked.",
        },
    )
    assert [list(request.messages) for request in lm.requests[:2]] == [list(first), list(second)]


def test_rollouts_do_not_retry(program, scripted) -> None:
    counting = program(RETRIED, scripted(lambda request: "many"))
    result = asyncio.run(counting.run({"text": "a"}, options=RunOptions(retry=False)))
    assert len(result.trace) == 1
    assert result.error is not None and result.error.kind == "unreadable"


def test_a_failure_is_a_record_with_its_raw_text(program, scripted) -> None:
    with pytest.raises(RunError) as caught:
        program(RETRIED, scripted(lambda request: "many"))(text="a")
    result = caught.value.result
    assert str(caught.value) == "ask: number: 'many' is not a whole number"
    assert (result.outputs, result.error.kind, result.error.path) == (None, "unreadable", "ask")
    assert [made.text for made in result.trace] == ["many"] * 3
    assert caught.value.exit_status == 1


def test_a_provider_failure_is_told_apart(program, scripted) -> None:
    with pytest.raises(RunError) as caught:
        program(RETRIED, scripted(lambda request: ProviderError("the provider is down")))(text="a")
    assert caught.value.exit_status == 3
    (made,) = caught.value.result.trace
    assert (made.text, made.error) == (None, "the provider is down")
    assert caught.value.result.error.kind == "provider"


def test_a_step_that_is_retried_asks_with_other_seeds_and_one_index(program, scripted) -> None:
    answers = iter([ProviderError("down"), "bad", "worse", "bad", "5", "6"])
    spec = RETRIED.replace("ask: {module: count,", "ask: {module: count, retry: 3,").replace("retry: 2}", "retry: 1}")
    result = program(spec, scripted(lambda request: next(answers)))(text="a")
    assert [(made.path, made.call, made.attempt) for made in result.trace] == [
        ("ask", 0, 0),
        ("ask", 0, 2),
        ("ask", 0, 3),
        ("ask", 0, 4),
        ("ask", 0, 5),
        ("again", 1, 0),
    ]
    assert len(set(seeds(result))) == 6


def test_a_loop_that_is_retried_draws_other_seeds_and_keeps_indices(program, scripted) -> None:
    answers = iter(["1", "bad", "2", "3"])
    spec = """
        inputs: {text: str}
        outputs: {numbers: "${{ steps.loop.numbers }}"}
        modules:
          count: {lm: lm, inputs: {text: str}, outputs: {number: int}}
        steps:
          loop:
            repeat: 2
            retry: 1
            state: {numbers: {type: "list[int]", start: []}}
            steps:
              ask: {module: count, with: {text: "${{ inputs.text }}"}}
            next: {numbers: {append: "${{ steps.ask.number }}"}}
    """
    result = program(spec, scripted(lambda request: next(answers)))(text="a")
    assert result.outputs == {"numbers": [2, 3]}
    assert [(made.path, made.call, made.attempt, made.text) for made in result.trace] == [
        ("loop[0].ask", 0, 0, "1"),
        ("loop[0].ask", 0, 1, "2"),
        ("loop[1].ask", 1, 0, "bad"),
        ("loop[1].ask", 1, 1, "3"),
    ]
    assert len(set(seeds(result))) == 4


def test_on_error_stands_in_for_the_outputs(program, scripted) -> None:
    spec = RETRIED.replace("ask: {module: count,", "ask: {module: count, on_error: {number: -1},")
    replies = iter(["x", "y", "z", "4"])
    result = program(spec, scripted(lambda request: next(replies)))(text="a")
    assert result.outputs == {"number": -1, "more": 4}
    assert [made.error is None for made in result.trace] == [False, False, False, True]
    assert [(each.step, each.failure.kind) for each in result.recovered] == [("ask", "unreadable")]


def test_the_failures_that_on_error_answered_are_in_the_order_of_the_plan_also_those_of_sub_programs(
    program, scripted, write
) -> None:
    write(
        """
        lmprog: 1
        inputs: {numbers: "list[int]"}
        outputs: {first: "${{ steps.first.value }}"}
        steps: {first: {value: "${{ inputs.numbers[0] }}", on_error: {value: 0}}}
    """,
        "inner.yaml",
    )
    spec = """
        inputs: {numbers: "list[int]"}
        outputs: {sum: "${{ steps.own.value + steps.whole.first }}"}
        steps:
          own: {value: "${{ inputs.numbers[1] }}", on_error: {value: 1}}
          whole: {program: inner.yaml, with: {numbers: "${{ inputs.numbers }}"}, needs: [own]}
    """
    made = program(spec)
    result = made(numbers=[])
    assert result.outputs == {"sum": 1}
    assert [(each.step, each.failure.kind) for each in result.recovered] == [
        ("own", "expression"),
        ("whole/first", "expression"),
    ]
    assert [each.step for each in made(numbers=[2]).recovered] == ["own"]
    assert made(numbers=[2, 3]).recovered == []


def test_on_error_covers_an_expression_that_cannot_be_computed(program, scripted) -> None:
    spec = """
        inputs: {numbers: "list[int]"}
        outputs: {first: "${{ steps.first.value }}"}
        steps:
          first: {value: "${{ inputs.numbers[0] }}", on_error: {value: 0}}
    """
    assert program(spec)(numbers=[]).outputs == {"first": 0}
    assert program(spec)(numbers=[3]).outputs == {"first": 3}
    with pytest.raises(RunError, match=r"^first: "):
        program(spec.replace(", on_error: {value: 0}", ""))(numbers=[])
    # One that cannot be computed either has answered nothing.
    with pytest.raises(RunError, match=r"^first: ") as caught:
        program(spec.replace("value: 0", 'value: "${{ inputs.numbers[1] }}"'))(numbers=[])
    assert caught.value.result.recovered == []


def test_a_timeout_ends_the_step_and_keeps_the_record(program, scripted) -> None:
    spec = PAIR.replace("one: {module: echo,", "one: {module: echo, timeout: 0.3,")
    lm = scripted(said, delay=lambda request: 30 if said(request).endswith("1") else 0)
    with pytest.raises(RunError) as caught:
        program(spec, lm)(text="a")
    assert str(caught.value) == "one: no end after 0.3 seconds"
    assert caught.value.exit_status == 3
    assert [(made.path, made.error) for made in caught.value.result.trace] == [("one", CANCELLED), ("two", None)]
    assert lm.active == 0


def test_a_timeout_is_retried(program, scripted) -> None:
    delays = chain([30], repeat(0))
    # More retries than one: on a busy machine a second try may be late too.
    spec = PAIR.replace("one: {module: echo,", "one: {module: echo, timeout: 0.2, retry: 9,").replace(
        "two: {module: echo,", "two: {module: echo, needs: [one],"
    )
    assert program(spec, scripted(said, delay=lambda request: next(delays)))(text="a").outputs == {"both": "a1a2"}


def test_a_failure_ends_the_steps_beside_it(program, scripted) -> None:
    lm = scripted(
        lambda request: ProviderError("down") if said(request).endswith("1") else "ok",
        delay=lambda request: 0.01 if said(request).endswith("1") else 30,
    )

    async def run() -> Any:
        result = await program(PAIR, lm).run({"text": "a"})
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    result = asyncio.run(run())
    assert str(result.error) == "one: down"
    assert [(made.path, made.error) for made in result.trace] == [("one", "down"), ("two", CANCELLED)]
    assert lm.active == 0


def test_cancellation_leaves_no_task(program, scripted) -> None:
    lm = scripted(said, delay=30)

    async def run() -> None:
        both = asyncio.create_task(program(PAIR, lm).run({"text": "a"}))
        each = asyncio.create_task(program(EACH, lm).run({"texts": ["0", "1", "2"]}))
        while lm.active < 4:
            await asyncio.sleep(0.001)
        for task in (both, each):
            task.cancel()
        ended = await asyncio.gather(both, each, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert lm.active == 0


INNER = """
    lmprog: 1
    name: inner
    inputs: {text: str}
    lms: {lm: {model: openai/none, trusted: true}}
    modules:
      shout: {lm: lm, inputs: {text: str}, outputs: {reply: str}}
"""
OUTER = """
    name: outer
    inputs: {text: str}
    outputs: {replies: "${{ steps.each.reply }}", last: "${{ steps.last.reply }}"}
    steps:
      each:
        program: ./inner.yaml
        foreach: "${{ [inputs.text, inputs.text] }}"
        with: {text: "${{ item }}"}
      last: {program: ./inner.yaml, needs: [each], with: {text: "${{ inputs.text }}"}}
"""


def test_a_sub_program_is_part_of_the_run(program, scripted) -> None:
    lm = scripted(lambda request: said(request).upper())
    result = program(OUTER, lm, inner__yaml=INNER)(text="a")
    assert result.outputs == {"replies": ["A", "A"], "last": "A"}
    assert [(made.program, made.parent, made.path, made.module, made.call) for made in result.trace] == [
        ("inner", "each[0]", "shout", "shout", 0),
        ("inner", "each[1]", "shout", "shout", 1),
        ("inner", "last", "shout", "shout", 2),
    ]


def test_the_lms_of_a_sub_program_can_be_rebound(program, scripted) -> None:
    lm = scripted(lambda request: "mine")
    spec = OUTER.replace("foreach:", "lms: {lm: lm}\n        foreach:").replace(
        "last: {program: ./inner.yaml,", "last: {program: ./inner.yaml, lms: {lm: lm},"
    )
    inner = INNER.replace("model: openai/none", "model: openai/another")
    result = program(spec, lm, inner__yaml=inner)(text="a")
    assert result.outputs == {"replies": ["mine", "mine"], "last": "mine"}
    assert {made.weights for made in result.trace} == {"openai/none"}


def test_the_calls_of_a_sub_program_have_seeds_of_their_own(program, scripted) -> None:
    result = program(OUTER, scripted(said), inner__yaml=INNER)(text="a")
    assert len(set(seeds(result))) == 3


def test_a_failure_in_a_sub_program_names_both_places(program, scripted) -> None:
    lm = scripted(lambda request: ProviderError("down"))
    with pytest.raises(RunError) as caught:
        program(OUTER, lm, inner__yaml=INNER)(text="a")
    assert str(caught.value) == "each[0]/shout: down"
    assert caught.value.result.error.kind == "provider"


def test_a_sub_program_that_is_cut_short_keeps_its_records(program, scripted) -> None:
    spec = OUTER.replace("last: {program: ./inner.yaml,", "last: {program: ./inner.yaml, timeout: 0.3,")
    lm = scripted(said, delay=lambda request: 30 if len(lm.requests) == 3 else 0)
    with pytest.raises(RunError, match=r"last: no end after 0.3 seconds") as caught:
        program(spec, lm, inner__yaml=INNER)(text="a")
    assert [made.error for made in caught.value.result.trace] == [None, None, CANCELLED]


def test_a_retried_sub_program_draws_other_seeds(program, scripted) -> None:
    answers = iter(["a", "a", ProviderError("down"), "b"])
    spec = OUTER.replace("last: {program: ./inner.yaml,", "last: {program: ./inner.yaml, retry: 1,")
    result = program(spec, scripted(lambda request: next(answers)), inner__yaml=INNER)(text="a")
    assert [(made.parent, made.call, made.attempt) for made in result.trace][2:] == [("last", 2, 0), ("last", 2, 1)]
    assert len(set(seeds(result))) == 4


def test_what_a_run_overrides_reaches_only_the_modules_that_are_named(program, scripted) -> None:
    lm = scripted(said)
    pair = program(PAIR, lm)
    asyncio.run(pair.run({"text": "a"}, options=RunOptions(module_params={"echo": {"temperature": 1.0}})))
    asyncio.run(pair.run({"text": "a"}, options=RunOptions(module_params={"x": {"temperature": 1.0}})))
    assert [request.params for request in lm.requests] == [{"temperature": 1.0}] * 2 + [{}] * 2


def test_the_record_of_a_call(program, scripted) -> None:
    usage_lm = scripted(
        lambda request: Completion("hi", token_ids=(5, 2), logprobs=(-0.5, -0.1), prompt_token_ids=(1, 9))
    )
    (first, _) = program(PAIR, usage_lm)(text="a").trace
    assert (first.inputs, first.outputs, first.text, first.error) == ({"text": "a1"}, {"reply": "hi"}, "hi", None)
    assert (first.token_ids, first.logprobs, first.prompt_token_ids) == ((5, 2), (-0.5, -0.1), (1, 9))
    assert (first.weights, first.finish_reason, first.program) == ("openai/none", "stop", "program")
    assert len(first.prompt_sha256) == 64
    assert first.seconds >= 0


def test_a_tool_or_an_lm_that_cancels_itself_fails_alone(program, scripted) -> None:
    class Cancelled:
        async def complete(self, request: Any) -> Completion:
            raise asyncio.CancelledError

    text = """
    inputs: {text: str}
    outputs: {both: "${{ steps.join.value }}"}
    tools: {look: {python: "./own.py:look", result: found}}
    modules:
      echo: {lm: lm, inputs: {text: str}, outputs: {reply: str}}
    steps:
      beside: {value: "1"}
      first: %s
      join: {value: "${{ steps.first.%s }}"}
    """
    own = "import asyncio\nasync def look(text: str) -> str:\n    raise asyncio.CancelledError\n"

    async def ended(step: str, output: str) -> tuple[str, str | None]:
        async with asyncio.timeout(60):
            result = await program(text % (step, output), Cancelled(), own__py=own).run({"text": "a"})
        assert result.error is not None and len(result.records) == 1
        return result.error.kind, result.records[0].error

    tool = '{tool: look, with: {text: "${{ inputs.text }}"}}'
    assert asyncio.run(ended(tool, "found")) == ("tool", "look was cancelled by its own code, and has no result")
    module = '{module: echo, with: {text: "${{ inputs.text }}"}}'
    assert asyncio.run(ended(module, "reply")) == ("provider", "openai/none was cancelled by its own code")


def test_a_constant_part_of_a_prompt_that_cannot_be_rendered_fails_the_run_at_its_step(program, scripted) -> None:
    echo = "echo: {lm: lm, inputs: {text: str}, outputs: {reply: str}"
    broken = 'prompt: {system: "{% for i in range(1000000) %}x{% endfor %}", user: "{{ text }}"}'
    lm = scripted(said)
    made = program(CHAIN.replace(echo, f"{echo}, {broken}"), lm)
    for _ in range(2):
        error = asyncio.run(made.run({"text": "a"})).error
        assert error is not None and (error.kind, error.path) == ("template", "first") and "range" in error.message
    assert not lm.requests
