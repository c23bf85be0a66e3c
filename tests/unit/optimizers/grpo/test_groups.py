"""`form_groups` and `advantages` against brute-force references on random rollouts."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.optimizers.grpo.advantages import advantages, has_signal, update_averages
from lmprog.optimizers.grpo.groups import form_groups, spread


@dataclass(frozen=True)
class Call:
    module: str
    call: int
    attempt: int = 0


@dataclass(frozen=True)
class Run:
    example: int
    rollout: int
    reward: float
    invocations: tuple[Call, ...]


@st.composite
def runs(draw: st.DrawFn) -> list[Run]:
    """Runs of up to three modules called 0 to 3 times each, with retries, rewards of few values so that ties occur."""
    found = []
    for example in range(draw(st.integers(1, 3))):
        for rollout in range(draw(st.integers(1, 5))):
            calls = []
            for module in ("a", "b", "c"):
                for call in range(draw(st.integers(0, 3))):
                    calls += [Call(module, call, attempt) for attempt in range(draw(st.integers(1, 2)))]
            reward = draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))
            found.append(Run(example, rollout, reward, tuple(calls)))
    return found


def reference(rollouts: list[Run]) -> dict[tuple[int, str, int], list[tuple[int, float, Call]]]:
    """Every (example, module, k) looked up in every run, one by one; of the retries of a call the last."""
    found = {}
    for example in {run.example for run in rollouts}:
        for module in "abc":
            for k in range(4):
                members = []
                for run in rollouts:
                    if run.example == example:
                        made = [c for c in run.invocations if c.module == module and c.call == k]
                        if made:
                            members.append((run.rollout, run.reward, made[-1]))
                if members:
                    found[example, module, k] = members
    return found


@given(runs())
def test_ragged_groups_hold_exactly_the_runs_that_reached_the_call(rollouts: list[Run]) -> None:
    groups = form_groups(rollouts, min_group=3)
    found = {
        (g.example, g.module, g.call): [(m.rollout, m.reward, m.invocations[0]) for m in g.members] for g in groups
    }
    assert found == reference(rollouts)
    assert len(found) == len(groups)
    assert all(group.small == (len(group.members) < 3) for group in groups)
    assert all(len(member.invocations) == 1 for group in groups for member in group.members)


@given(runs())
def test_truncate_drops_the_positions_that_some_run_lacks(rollouts: list[Run]) -> None:
    size = {run.example: sum(other.example == run.example for other in rollouts) for run in rollouts}
    wanted = {key for key, members in reference(rollouts).items() if len(members) == size[key[0]]}
    assert {(g.example, g.module, g.call) for g in form_groups(rollouts, align="truncate")} == wanted


@given(runs())
def test_fill_pads_runs_with_their_own_calls_and_nothing_else_duplicates(rollouts: list[Run]) -> None:
    for group in form_groups(rollouts, align="fill"):
        reached = {
            run.rollout: run
            for run in rollouts
            if run.example == group.example and any(call.module == group.module for call in run.invocations)
        }
        assert {member.rollout for member in group.members} == set(reached)
        for member in group.members:
            own = [call for call in reached[member.rollout].invocations if call.module == group.module]
            assert member.invocations[0] in own
            if any(call.call == group.call for call in own):
                assert member.invocations[0].call == group.call
    assert form_groups(rollouts, align="fill") == form_groups(rollouts, align="fill")
    for align in ("ragged", "truncate"):
        used = [id(m.invocations[0]) for g in form_groups(rollouts, align=align) for m in g.members]
        assert len(used) == len(set(used))


@given(runs())
def test_a_trajectory_is_one_member_with_all_its_calls(rollouts: list[Run]) -> None:
    groups = form_groups(rollouts, level="trajectory")
    assert [member.rollout for group in groups for member in group.members] == [
        run.rollout
        for example in dict.fromkeys(r.example for r in rollouts)
        for run in rollouts
        if run.example == example
    ]
    for group in groups:
        assert (group.module, group.call) == (None, None)
        for member in group.members:
            (run,) = [r for r in rollouts if (r.example, r.rollout) == (group.example, member.rollout)]
            assert {(c.module, c.call) for c in member.invocations} == {(c.module, c.call) for c in run.invocations}
            assert len(member.invocations) == len({(c.module, c.call) for c in run.invocations})


def test_a_run_that_never_reaches_a_module_leaves_the_others_whole() -> None:
    rollouts = [
        Run(0, 0, 1.0, (Call("a", 0), Call("b", 0))),
        Run(0, 1, 0.0, (Call("a", 0),)),
        Run(0, 2, 0.5, (Call("a", 0), Call("b", 0))),
    ]
    a, b = form_groups(rollouts)
    assert [member.rollout for member in a.members] == [0, 1, 2]
    assert [member.rollout for member in b.members] == [0, 2]


def test_two_modules_with_one_signature_stay_apart() -> None:
    groups = form_groups([Run(0, 0, 1.0, (Call("twin_1", 0), Call("twin_2", 0)))])
    assert [group.module for group in groups] == ["twin_1", "twin_2"]


def test_select_spreads_the_rewards() -> None:
    rollouts = [Run(0, i, reward, (Call("a", 0),)) for i, reward in enumerate([0.9, 0.1, 0.5, 0.3, 0.7])]
    (group,) = form_groups(rollouts, select=3)
    assert [member.reward for member in group.members] == [0.1, 0.5, 0.9]
    assert [m.reward for m in spread(form_groups(rollouts)[0].members, 2)] == [0.1, 0.9]
    assert len(form_groups(rollouts, select=9)[0].members) == 5


@given(
    runs(),
    st.sampled_from(["group", "rollout", "leave_one_out", "module_ema"]),
    st.sampled_from(["none", "group", "batch", "module"]),
)
def test_advantages_equal_a_brute_force_reference(rollouts: list[Run], baseline: str, scale: str) -> None:
    averages = {"a": 0.4, "b": 0.1}
    groups = form_groups(rollouts)
    found = advantages(groups, baseline=baseline, scale=scale, rollouts=rollouts, averages=averages)
    assert [len(values) for values in found] == [len(group.members) for group in groups]
    for group, values in zip(groups, found, strict=True):
        own = [member.reward for member in group.members]
        example = [run.reward for run in rollouts if run.example == group.example]
        for place, value in enumerate(values):
            others = own[:place] + own[place + 1 :]
            base = statistics.fmean(own)
            if len(own) < 2 or baseline == "rollout":
                base = statistics.fmean(example)
            elif baseline == "leave_one_out":
                base = statistics.fmean(others)
            elif baseline == "module_ema":
                base = averages.get(group.module, base)
            spreads = {
                "none": [0.0],
                "group": example if len(own) < 2 else own,
                "batch": [m.reward for g in groups for m in g.members],
                "module": [m.reward for g in groups if g.module == group.module for m in g.members],
            }
            divisor = statistics.pstdev(spreads[scale]) or 1.0
            assert value == pytest.approx((own[place] - base) / divisor, abs=1e-12)


@given(runs())
def test_group_advantages_sum_to_nothing_and_a_group_without_signal_has_none(rollouts: list[Run]) -> None:
    groups = form_groups(rollouts, min_group=1)
    for group, values in zip(groups, advantages(groups), strict=True):
        assert sum(values) == pytest.approx(0.0, abs=1e-9)
        assert has_signal(group) == any(values)


def test_running_averages_move_towards_the_new_rewards() -> None:
    groups = form_groups([Run(0, 0, 1.0, (Call("a", 0),)), Run(0, 1, 0.0, (Call("a", 0),))])
    assert update_averages({}, groups) == {"a": 0.5}
    assert update_averages({"a": 1.0, "b": 0.2}, groups, decay=0.9) == pytest.approx({"a": 0.95, "b": 0.2})


@pytest.mark.parametrize("wrong", [{"level": "program"}, {"align": "pad"}, {"select": 0}])
def test_unknown_policies_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"is module or|is ragged|at least one"):
        form_groups([], **wrong)
