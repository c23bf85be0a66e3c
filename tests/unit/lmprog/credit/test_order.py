"""Which calls may follow from which, and how a run is replayed but for some of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lmprog
from lmprog import Completion
from lmprog.compiler.bounds import bounds
from lmprog.credit.order import Order
from lmprog.credit.replies import Replies
from lmprog.lms.lm import ToolCall
from lmprog.runtime.options import RunOptions

INNER = """
    lmprog: 1
    name: inner
    inputs: {text: str}
    outputs: {said: "${{ steps.last.said }}"}
    lms: {lm: {model: openai/none, trusted: true}}
    modules:
      say: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Inner}
    steps:
      first: {module: say, with: {text: "${{ inputs.text }}"}}
      last: {module: say, with: {text: "${{ steps.first.said }}"}}
"""
OUTER = """
    inputs: {text: str}
    outputs: {said: "${{ steps.end.said }}", beside: "${{ steps.beside.said }}"}
    modules:
      say: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Outer}
      end: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: End}
    steps:
      beside: {module: say, with: {text: "${{ inputs.text }}"}}
      each:
        foreach: "${{ ['a', 'b'] }}"
        program: ./inner.yaml
        with: {text: "${{ item }}"}
      turns:
        repeat: 2
        state: {said: {type: str, start: "${{ steps.each.said[0] }}"}}
        steps:
          one: {module: say, with: {text: "${{ state.said }}"}}
          other: {module: say, with: {text: "${{ state.said }}"}}
        next: {said: {set: "${{ steps.one.said + steps.other.said }}"}}
      end: {module: end, with: {text: "${{ state_free.said }}"}}
""".replace("state_free", "steps.turns")


@pytest.fixture
def nested(program, scripted, write) -> lmprog.Program:
    write(INNER, "inner.yaml")
    made: lmprog.Program = program(OUTER, scripted(lambda request: str(request.seed % 1000)))
    return made


def trace_of(program: lmprog.Program, **options: Any) -> list[lmprog.Invocation]:
    return asyncio.run(program.run({"text": "x"}, options=RunOptions(**options))).trace


def test_places_of_a_run_are_those_of_the_plan(nested) -> None:
    order = Order(nested.plan)
    places = Replies(order, trace_of(nested)).places
    assert places == order.places()
    assert set(places.values()) == bounds(nested.plan).calls.keys() == {"say", "each.say", "end"}
    assert (("each", None), ("first", None)) in places  # both items
    assert (("turns", 1), ("other", None)) in places
    assert len(places) == 1 + 2 + 4 + 1


def test_what_follows_is_what_reads_and_later_turns(nested) -> None:
    order = Order(nested.plan)

    def following(path: str) -> set[str]:
        place, _ = order.place(path)
        names = {
            other: ".".join(id if turn is None else f"{id}{turn}" for id, turn in other) for other in order.places()
        }
        return {name for other, name in names.items() if order.follows(place, other)}

    turns = {"turns0.one", "turns0.other", "turns1.one", "turns1.other"}
    assert following("beside") == set()
    assert following("each[1]/first") == {"each.last", *turns, "end"}
    assert following("turns[0].one") == {"turns1.one", "turns1.other", "end"}
    assert following("turns[1].other") == {"end"}
    assert following("end") == set()


def test_a_run_is_replayed_but_for_what_is_sampled_anew(nested) -> None:
    order = Order(nested.plan)
    base = trace_of(nested)
    replies = Replies(order, base)
    asked = len(nested.lms["lm"].requests)
    again = trace_of(nested, rollout=1, replay=replies.but(frozenset()))
    assert len(nested.lms["lm"].requests) == asked and all(made.cached for made in again)
    assert [made.text for made in again] == [made.text for made in base]
    place, _ = order.place("turns[0].one")
    changed = trace_of(nested, rollout=1, replay=replies.but(frozenset([place])))
    differ = [made.path for made, old in zip(changed, base, strict=True) if made.text != old.text]
    # Asked anew: the one that was to be, and those that are asked something else for it.
    assert differ == ["turns[0].one", "turns[1].one", "turns[1].other", "end"]
    items = trace_of(nested, rollout=1, replay=replies.but(frozenset([order.place("each[0]/last")[0]])))
    assert {made.parent for made, old in zip(items, base, strict=True) if made.text != old.text} == {
        "each[0]",
        "each[1]",
        None,
    }


def test_the_turns_of_an_agent_are_one_place(program, scripted) -> None:
    def answer(request: Any) -> Any:
        asked = ToolCall("1", "look", {"what": str(request.seed % 9)})
        return Completion("", tool_calls=(asked,)) if request.key[4] == 0 else str(request.seed % 9)

    agent = program(
        """
        inputs: {text: str}
        outputs: {said: "${{ steps.ask.said }}"}
        tools: {look: {python: "./tools.py:look", effects: read}}
        modules:
          ask: {lm: lm, inputs: {text: str}, outputs: {said: str}, tools: [look], max_turns: 3}
        steps: {ask: {module: ask, with: {text: "${{ inputs.text }}"}}}
        """,
        scripted(answer),
        tools__py="def look(what: str) -> str:\n    '''Look.'''\n    return what\n",
    )
    order = Order(agent.plan)
    base = trace_of(agent)
    assert len(base) > 1
    replies = Replies(order, base)
    assert list(replies.places) == [(("ask", None),)]
    again = trace_of(agent, rollout=3, replay=replies.but(frozenset()))
    assert [made.text for made in again] == [made.text for made in base] and all(made.cached for made in again)
