"""What other implementations of multi-module GRPO get wrong, in the order of the list in the design: each has its test here.

That a run which was killed resumes is in tests/functional/test_killed_training.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from lmprog.errors import LmprogError, ProviderError  # noqa: E402
from lmprog.lms.local import local_lm  # noqa: E402
from lmprog.optimizers.grpo import keeper, sampler, stage  # noqa: E402
from lmprog.optimizers.grpo.advantages import advantages  # noqa: E402
from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.groups import form_groups  # noqa: E402
from lmprog.optimizers.grpo.math.training_rows import Row  # noqa: E402
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Wave, collect  # noqa: E402
from lmprog.optimizers.grpo.torch import trainer  # noqa: E402
from lmprog.runtime.options import RunOptions  # noqa: E402
from lmprog.scoring.metrics import MetricFailed, Scorer  # noqa: E402

LOOP = """
inputs: {text: str}
outputs: {said: "${{ steps.close.word }}"}
modules:
  ask: {inputs: {text: str}, outputs: {word: str}}
  check: {inputs: {text: str}, outputs: {word: str}}
  close: {inputs: {text: str}, outputs: {word: str}}
steps:
  loop:
    repeat: {until: "state.word == 'stop'", at_most: 3}
    state: {word: {type: str, start: "-"}}
    steps:
      ask: {module: ask, with: {text: "${{ state.word }}"}}
    next: {word: {set: "${{ steps.ask.word }}"}}
  check:
    module: check
    when: steps.loop.word == 'stop'
    with: {text: "${{ steps.loop.word }}"}
    else: {word: none}
  close: {module: close, with: {text: "${{ steps.check.word }}"}}
"""
TURNS = (1, 2, 9)
"""For each run, after how many queries it stops; the last never does, so that it never reaches `check`."""


@pytest.fixture
def uneven(program, scripted) -> list[Rollout]:
    """Runs of one program on one example, of three lengths, with the rewards 1, 0 and 0.5."""

    def answer(request: Any) -> Any:
        _, rollout, path, _ = request.key
        if not path.startswith("loop"):
            return "end"
        turn = int(path[len("loop[")])
        return "stop" if turn + 1 == TURNS[rollout] else "go"

    looped = program(LOOP, scripted(answer))
    found = []
    for rollout, reward in enumerate((1.0, 0.0, 0.5)):
        result = asyncio.run(looped.run({"text": "a"}, options=RunOptions(rollout=rollout, retry=False)))
        assert result.error is None, result.error
        trace = tuple(replace(made, token_ids=(1,), prompt_token_ids=(2,)) for made in result.trace)
        found.append(Rollout(0, rollout, reward, trace))
    return found


def members(rollouts: list[Rollout], **how: Any) -> dict[tuple[str | None, int | None], list[int]]:
    groups = form_groups(rollouts, **how)
    return {(group.module, group.call): [member.rollout for member in group.members] for group in groups}


def test_ragged_groups_hold_the_runs_that_reached_the_call(uneven: list[Rollout]) -> None:
    found = members(uneven)
    assert [found["ask", call] for call in range(3)] == [[0, 1, 2], [1, 2], [2]]
    groups = form_groups(uneven)
    values = advantages(groups, rollouts=uneven)
    assert [len(of_group) for of_group in values] == [len(group.members) for group in groups]


def test_a_run_that_never_reaches_a_module_leaves_the_others_whole(uneven: list[Rollout]) -> None:
    found = members(uneven)
    assert found["check", 0] == [0, 1]
    assert found["close", 0] == found["ask", 0] == [0, 1, 2]


def test_a_short_group_is_compared_with_the_whole_example_and_never_filled_up(uneven: list[Rollout]) -> None:
    groups = form_groups(uneven)
    (last,) = [place for place, group in enumerate(groups) if (group.module, group.call) == ("ask", 2)]
    assert groups[last].small and len(groups[last].members) == 1
    assert advantages(groups, scale="none", rollouts=uneven)[last] == [0.5 - 0.5]
    better = [replace(run, reward=1.0 if run.rollout == 2 else 0.0) for run in uneven]
    values = advantages(form_groups(better), scale="none", rollouts=better)
    assert values[last] == pytest.approx([2 / 3])
    for align in ("ragged", "truncate"):
        used = [id(made) for g in form_groups(better, align=align) for m in g.members for made in m.invocations]
        assert len(used) == len(set(used))


def test_modules_are_told_apart_by_their_ids_and_not_by_their_signature(uneven: list[Rollout]) -> None:
    assert {module for module, _ in members(uneven)} == {"ask", "check", "close"}  # all of one signature


@dataclass
class Seen:
    """What one step of a stage did: its waves, the rows that it trained on, and what the trainer made of them."""

    task: Any
    waves: list[Wave] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)

    @property
    def calls(self) -> dict[int, Any]:
        """The invocation of each row, by the row's place."""
        made = {id(one.token_ids): one for wave in self.waves for run in wave.rollouts for one in run.invocations}
        return {place: made[id(row.reply_ids)] for place, row in enumerate(self.rows)}


HEATS = {"query": 0.8}


@pytest.fixture(scope="module")
def seen(research: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """One step on a program with instructions and a demo."""
    demo = "{text: zebra, queries: [quagga], query: okapi}"
    task = research(
        tmp_path_factory.mktemp("seen"), ("instructions: Ask}", f"instructions: Inquire, demos: [{demo}]}}")
    )
    seen = Seen(task)
    seen.base = {n: p.clone() for n, p in local_lm(task.program.lms["lm"]).weights.base.state_dict().items()}
    inputs_of = trainer.ProgramTrainer._inputs_of

    async def collected(*args: Any, **kwargs: Any) -> Wave:
        seen.waves.append(await collect(*args, **kwargs))
        return seen.waves[-1]

    def made(self: Any, rows: list[Row]) -> dict[str, Any]:
        seen.inputs = inputs_of(self, rows)
        seen.rows = list(self._rows)
        return seen.inputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "collect", collected)
        patch.setattr(trainer.ProgramTrainer, "_inputs_of", made)
        config = Config(steps=1, examples=3, rollouts=5, temperature=HEATS, no_signal="drop")
        stage.grpo_stage(task, config).run()
    assert len(seen.rows) > 10
    return seen


@pytest.mark.slow
def test_demos_and_instructions_are_in_the_prompts_that_are_trained(seen: Seen) -> None:
    tokenizer = local_lm(seen.task.program.lms["lm"]).weights.tokenizer
    prompts = [tokenizer.decode(row.prompt_ids) for row in seen.rows if row.module == "query"]
    assert prompts and all(word in prompt for prompt in prompts for word in ("Inquire", "zebra", "quagga", "okapi"))


def test_what_is_trained_is_the_prompt_that_running_the_program_sends(seen: Seen) -> None:
    lm = local_lm(seen.task.program.lms["lm"])
    sent = {}
    for example, row in enumerate(seen.task.train):
        result = asyncio.run(seen.task.program.run(row, example=example))
        sent[example] = result.trace[0]
    for place, made in seen.calls.items():
        assert seen.rows[place].prompt_ids == lm.prompt(made.messages, (0, 0)).ids
        if (made.module, made.call) == ("query", 0):
            assert seen.rows[place].prompt_ids == sent[made.example].prompt_token_ids


def test_replies_are_the_token_ids_that_were_sampled_and_never_tokenized_again(seen: Seen) -> None:
    tokenizer = local_lm(seen.task.program.lms["lm"]).weights.tokenizer
    again = 0
    for place, made in seen.calls.items():
        assert list(seen.rows[place].reply_ids) == list(made.token_ids)
        again += list(tokenizer(made.text).input_ids) == list(made.token_ids)
    assert again < len(seen.rows)  # tokenizing the texts would have given others


def test_the_loss_is_of_replies_alone_under_the_distribution_that_was_sampled(seen: Seen) -> None:
    for place, (ids, mask, row) in enumerate(
        zip(seen.inputs["completion_ids"], seen.inputs["completion_mask"], seen.rows, strict=True)
    ):
        assert ids[mask > 0].tolist() == list(row.reply_ids)
        sampled = torch.tensor(seen.calls[place].logprobs)
        torch.testing.assert_close(seen.inputs["old_per_token_logps"][place][mask > 0], sampled, atol=2e-4, rtol=1e-4)
    assert {made.params["temperature"] for made in seen.calls.values()} == {0.8, 1.0}
    assert seen.inputs["prompt_ids"].shape[1] == 0


ASKED = 'with: {number: "${{ inputs.number }}"}'


def test_a_failed_call_carries_its_own_inputs_prompt_and_raw_text(parity) -> None:
    judge, script = parity((ASKED, 'with: {number: "${{ inputs.number + 7 }}"}'))
    answer = script.complete

    async def complete(request: Any) -> Any:
        completion = await answer(request)
        if request.key[1] == 2:
            raise ProviderError("down")
        return replace(completion, text="perhaps", token_ids=(3,)) if request.key[1] == 1 else completion

    script.complete = complete
    wave = asyncio.run(waved(judge, rollouts=4, format_failure=-0.5))
    assert (wave.lost, [run.rollout for run in wave.rollouts]) == (1, [0, 1, 3])
    failed = wave.rollouts[1]
    assert failed.failure == "unreadable" and failed.reward == -0.5
    (made,) = failed.invocations
    assert made.inputs == {"number": 1007}
    assert "1007" in made.messages[-1]["content"] and made.messages == wave.rollouts[0].invocations[0].messages
    assert (made.text, made.outputs, list(made.token_ids)) == ("perhaps", None, [3])


async def waved(program: Any, rollouts: int = 2, format_failure: float = 0.0) -> Wave:
    rows = [{"number": 1000, "parity": "even"}, {"number": 1001, "parity": "odd"}]
    scorer = Scorer(program, "accuracy")
    return await collect(
        program, rows, [0], scorer, rollouts=rollouts, params={}, format_failure=format_failure, seed=5
    )


@pytest.mark.parametrize("failure", [ProviderError("down"), MetricFailed("broken")])
def test_a_wave_without_one_scored_run_ends_the_stage_with_the_cause(parity, monkeypatch, failure: LmprogError) -> None:
    judge, _ = parity()
    told = []

    async def score(self: Any, *args: Any, **how: Any) -> Any:
        told.append((how["example"], how["options"].seed, how["options"].rollout))
        raise failure

    monkeypatch.setattr(Scorer, "score", score)
    with pytest.raises(type(failure), match=f"not one of 2 rollouts could be scored: .*{failure}"):
        asyncio.run(waved(judge))
    # What a judge draws by; after an outage of all runs one of them says whether to make the others again.
    assert sorted(set(told)) == [(0, 5, 0), (0, 5, 1)]
    assert len(told) == (3 if isinstance(failure, ProviderError) else 2)


def test_a_step_is_tried_again_where_a_provider_failed_and_not_for_its_reply(parity) -> None:
    judge, script = parity((ASKED, f"retry: 2, {ASKED}"))
    answer, asked = script.complete, []

    async def complete(request: Any) -> Any:
        completion = await answer(request)
        asked.append(request.key[1])
        if asked.count(0) == 1 and request.key[1] == 0:
            raise ProviderError("down")
        return replace(completion, text="perhaps") if request.key[1] == 1 else completion

    script.complete = complete
    wave = asyncio.run(waved(judge))
    assert (wave.lost, [run.failure for run in wave.rollouts]) == (0, [None, "unreadable"])
    assert sorted(asked) == [0, 0, 1]
    (group,) = form_groups(wave.rollouts)
    assert [made.attempt for member in group.members for made in member.invocations] == [1, 0]


@pytest.mark.slow
def test_the_weights_that_are_returned_are_the_best_on_dev_and_not_the_last(research, tmp_path, monkeypatch) -> None:
    import peft

    task = research(tmp_path)
    task = replace(task, dev=[*task.dev] * 8)  # enough for a gain that is no chance
    means = iter([0.0, 0.3, 1.0, 0.6])
    evaluate, end_of_step = keeper.aevaluate, stage.WeightStage.end_of_step
    after: list[dict[str, Any]] = []

    async def scored(*args: Any, **kwargs: Any) -> Any:
        scores, mean = await evaluate(*args, **kwargs), next(means)
        return replace(scores, rows=[replace(row, value=mean) for row in scores.rows])

    def ended(self: Any, *args: Any, **kwargs: Any) -> None:
        model = local_lm(task.program.lms["lm"]).weights.model
        after.append({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
        end_of_step(self, *args, **kwargs)

    monkeypatch.setattr(keeper, "aevaluate", scored)
    monkeypatch.setattr(stage.WeightStage, "end_of_step", ended)
    config = Config(steps=3, examples=3, rollouts=4, evaluate_every=1, learning_rate=0.01)
    candidate = stage.grpo_stage(task, config).run()
    saved = peft.load_peft_weights(candidate.adapters["lm"]["path"])

    def plain(weights: dict[str, Any]) -> dict[str, Any]:
        return {name.replace(".training-000", ""): weight for name, weight in weights.items()}

    assert len(after) == 3 and plain(after[1]).keys() == saved.keys()
    assert all(torch.equal(weight, saved[name]) for name, weight in plain(after[1]).items())
    assert any(not torch.equal(weight, saved[name]) for name, weight in plain(after[2]).items())


def test_the_lm_is_not_changed_in_place(seen: Seen) -> None:
    lm = local_lm(seen.task.program.lms["lm"])
    found = lm.weights.base.state_dict()
    assert found.keys() == seen.base.keys()
    assert all(torch.equal(weight, seen.base[name]) for name, weight in found.items())
    assert lm.weights.end_ids == {1} and not lm.weights.base.training
    assert all(module.adapter is None for module in seen.task.program.plan.modules.values())
