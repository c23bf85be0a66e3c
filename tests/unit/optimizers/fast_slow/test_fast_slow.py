"""The population of `fast_slow`: what it keeps, how rollouts are spread over it, and that an example is one group."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter

import pytest

from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.fast_slow.config import Config
from lmprog.optimizers.fast_slow.rounds import Rounds, varied
from lmprog.optimizers.fast_slow.spread import Spread
from lmprog.optimizers.grpo.advantages import advantages
from lmprog.optimizers.grpo.groups import form_groups
from lmprog.optimizers.grpo.sampling.rollouts import collect
from lmprog.optimizers.prompt_search.choices import Choices
from lmprog.optimizers.strategies.fronts import Pareto
from lmprog.scoring.metrics import Scorer

GOOD = Candidate({"judge": "Divide by two."})


@pytest.mark.parametrize("seed", range(40))
def test_the_front_is_that_of_brute_force(seed: int) -> None:
    draw = random.Random(seed)
    rows, count = draw.randint(1, 5), draw.randint(1, 7)
    scores = [{str(row): draw.choice([0.0, 0.5, 1.0]) for row in range(rows)} for _ in range(count)]

    def beaten(place: int) -> bool:
        return any(
            scores[other] != scores[place] and all(scores[other][row] >= scores[place][row] for row in scores[place])
            for other in range(count)
        )

    def covered(places: tuple[int, ...]) -> float:
        return sum(max(scores[place][row] for place in places) for row in scores[0])

    front = [place for place in range(count) if not beaten(place)]
    assert sorted(Pareto().kept(scores, count)) == front
    first, *others = Pareto().kept(scores, 2)
    assert covered((first,)) == max(covered((place,)) for place in range(count))
    pairs = [pair for pair in itertools.combinations(front, 2) if first in pair]
    assert bool(others) == bool(pairs)
    if pairs:
        assert covered((first, *others)) == max(map(covered, pairs))


def test_rows_that_some_candidate_was_not_scored_on_choose_nothing() -> None:
    assert Pareto().kept([{"0": 1.0}, {"0": 0.0, "1": 1.0}], 2) == [0]
    assert Pareto().kept([], 2) == []


def test_the_runs_of_each_example_are_spread_evenly(parity) -> None:
    program, _ = parity()
    spread = Spread.over(program, [program] * 3, seed=5)
    placed = {example: [spread.member(example, rollout) for rollout in range(8)] for example in range(300)}
    assert all(sorted(Counter(members).values()) == [2, 3, 3] for members in placed.values())
    # Who gets one run less is drawn anew for each example.
    assert all(700 < count < 900 for count in Counter(itertools.chain(*placed.values())).values())
    assert [Spread.over(program, [program] * 3, seed=5).member(7, run) for run in range(8)] == placed[7]


def test_an_example_is_normalised_once_across_prompts(parity, task_of) -> None:
    task = task_of(parity()[0])
    members = [task.program, task.program.with_candidate(GOOD)]
    spread = Spread.over(task.program, members, seed=0)
    even = [place for place, row in enumerate(task.train) if row["parity"] == "even"][:2]
    scorer = Scorer(task.program, "accuracy")
    wave = asyncio.run(collect(spread, task.train, even, scorer, rollouts=4, params={}, format_failure=0.0, seed=0))
    groups = form_groups(wave.rollouts)
    assert [(group.example, group.module, len(group.members)) for group in groups] == [
        (row, "judge", 4) for row in even
    ]
    # Each prompt alone always scores the same: normalised by itself it would teach nothing.
    for group, of_group in zip(groups, advantages(groups), strict=True):
        good = [spread.member(group.example, member.rollout) == 1 for member in group.members]
        assert sorted(good) == [False, False, True, True]
        assert of_group == [1.0 if knows else -1.0 for knows in good]
        said = [any("Divide by two." in str(sent) for sent in made.invocations[0].messages) for made in group.members]
        assert said == good


def test_a_child_has_parts_of_its_parent_and_of_the_choices() -> None:
    choices = [
        Choices("plan", instructions=[None, "x", "y"], demos=[None, [{"a": 1}]]),
        Choices("solve", instructions=[None, "z"]),
        Choices("fixed"),
    ]
    parent = Candidate({"plan": "x", "fixed": "kept"}, {"plan": [{"a": 1}]})
    children = [varied(parent, choices, random.Random(seed)) for seed in range(200)]
    assert all(child.instructions["fixed"] == "kept" for child in children)
    assert {child.instructions.get("plan") for child in children} == {None, "x", "y"}
    assert {child.instructions.get("solve") for child in children} == {None, "z"}
    assert {len(child.demos.get("plan", ())) for child in children} == {0, 1}
    assert any(child.instructions.get("solve") == "z" and child.demos == parent.demos for child in children)


def test_a_round_finds_the_good_one_and_is_held_once(parity, task_of) -> None:
    more = ("  stages:", f"  instructions: {{judge: [Look at it., Divide by two., {'long ' * 8000}]}}\n  stages:")
    program, script = parity(more, ("[instructions, demos]", "[instructions]"))
    task = task_of(program)
    config = Config(trials=4, rows=10, bootstrap_rows=0, population=2)
    rounds = Rounds(task, config)
    assert rounds.kept(0) == [START]
    asyncio.run(rounds.hold(0, 0, task.program))
    assert rounds.kept(0)[0].instructions == {"judge": "Divide by two."}
    (told,) = [event for event in task.journal.events if event["event"] == "round"]
    # Of the three candidates one does not fit the context, and is never run.
    assert (told["best"]["mean"], told["tried"], told["refused"]) == (1.0, 2, 1)
    asked = script.calls
    assert asked == 3 * 10
    asyncio.run(Rounds(task, config).hold(0, 0, task.program))
    assert script.calls == asked
    asyncio.run(Rounds(task, config).hold(1, 4, task.program))
    assert script.calls > asked and rounds.kept(1)[0] == rounds.kept(0)[0]
