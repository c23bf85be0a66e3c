"""`ensemble`: one program made of several that differ in their words, by a vote over their answers or by a judge.

It is laid out in the language itself, as one would write it by hand: a step for each member, and steps that pick one of their
answers. Whatever follows calls, costs and private values through a program does so here without knowing of ensembles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmprog.compiler.bounds import bounds
from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.plan import Field, Layout, Module, Plan
from lmprog.compiler.templates.compiled import Template
from lmprog.compiler.types.lattice import JSON, Enum, ListOf
from lmprog.compiler.yaml.laying import merged
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, placed
from lmprog.compiler.yaml.source import Sequence as Listed

KEY = "ensemble"
JUDGE = "judge"
"""The module, and the step, by which a judge picks."""
INSTRUCTIONS = (
    "Several answers were given to one task. Find the answer that is best, and reply with its number and nothing else."
)
_USER = (
    "Task: {{ task | tojson }}\n{% for answer in answers %}Answer {{ loop.index }}: {{ answer | tojson }}\n{% endfor %}"
    "Number of the best answer:"
)
_OWN = ("steps", "outputs", "modules", "tools", "optimize")
"""Keys of the program that its members have, and the ensemble itself has not."""


def name_of(number: int) -> str:
    """Return the name of member `number` (from 1) of an ensemble, `member_1`, which is also the id of the step that
    runs it."""
    return f"member_{number}"


def judge_of(root: Mapping) -> str | None:
    """Return the id of the LM that picks the best answer; None where the members vote, or there is no ensemble."""
    node = root.map(KEY)
    return node.value("judge") if node is not None else None


def member_roots(root: Mapping) -> list[Mapping]:
    """Return the spec of each member of an ensemble, in order, whose tree is `root` (left as it is): the program's own
    without `ensemble`, with the member's modules laid over it; empty where there is no list of members."""
    node = root.map(KEY)
    listed = node.get("members") if node is not None else None
    alone = root.copy()
    alone.entries.pop(KEY, None)
    alone.keys.pop(KEY, None)
    found = []
    for member in listed.items if isinstance(listed, Listed) else ():
        key = Scalar(root.source, member.line, member.column, "modules", "modules", None)
        over = Mapping(root.source, root.line, root.column, {"modules": member}, {"modules": key})
        found.append(merged(alone, over))
    return found


def check(draft: Draft, plan: Plan) -> None:
    """Report modules and LMs (LMP103) and outputs (LMP203) in the block `ensemble` that the program does not have, and
    each tool that writes, which every member would call (LMP101).

    `draft` and `plan` are of the program without the members' changes.
    """
    node, report = draft.root.map(KEY), draft.report
    assert node is not None
    listed = node.get("members")
    members = listed.items if isinstance(listed, Listed) else []
    for tool in bounds(plan).writes:
        message = f"all members of an ensemble call what the program calls, and `{tool}` writes: it would write "
        message += f"{len(members)} times"
        fix = "answer by the ensemble and write in a program around it, or say effects: read of a tool that only reads"
        report.add("LMP101", node.place, message, fix=fix)
    for member in (each for each in members if isinstance(each, Mapping)):
        for id in member.entries:
            if id not in draft.modules and id not in draft.dropped("modules"):
                message = f"a member of the ensemble changes the module `{id}`, which does not exist"
                report.add("LMP103", member.key_place(id), message, fix=suggestion(id, draft.modules, "modules"))
    vote, judge = node.get("vote"), node.get("judge")
    if vote is not None and vote.plain() not in draft.output_types and not draft.dropped_top("outputs"):
        message = f"`vote` names the output `{vote.plain()}`, which the program does not have"
        report.add("LMP203", vote.place, message, fix=suggestion(vote.plain(), draft.output_types, "outputs"))
    if judge is not None and judge.plain() not in draft.lms and judge.plain() not in draft.dropped("lms"):
        message = f"`judge` names the LM `{judge.plain()}`, which does not exist"
        report.add("LMP103", judge.place, message, fix=suggestion(judge.plain(), draft.lms, "LMs"))


def laid_out(root: Mapping, members: Sequence[Plan]) -> Mapping:
    """Return the spec of an ensemble, whose tree is `root` (left as it is), as an ordinary program: a step runs each of
    the compiled `members`, further steps pick one of their answers by vote or judge, and its outputs are that answer.
    The module of the judge is not in it: the caller adds `judging_module`.
    """
    node = root.map(KEY)
    assert node is not None
    vote, judge = node.get("vote"), node.get("judge")
    names = [name_of(number) for number, _ in enumerate(members, 1)]
    given = {name: f"${{{{ inputs.{name} }}}}" for name in members[0].inputs}
    steps: dict[str, Any] = {name: {"program": name, "with": given} for name in names}
    steps["answers"] = {"value": f"compact([{', '.join(f'steps.{name}.answer' for name in names)}])"}
    if vote is not None:
        steps["best"] = {"value": f"most_common(steps.answers.value, {vote.plain()!r})"}
    else:
        steps[JUDGE] = {
            "module": JUDGE,
            "when": "len(unique(steps.answers.value)) > 1",
            "with": {"task": "${{ inputs }}", "answers": "${{ steps.answers.value }}"},
            "else": {"best": "1"},
            "on_error": {"best": "1"},
        }
        number, answers = f"int(steps.{JUDGE}.best)", "steps.answers.value"
        # The answer of that number; where there are fewer, the first.
        steps["best"] = {"value": f"most_common({answers}[{number} - 1:{number}] + {answers}[:1])"}
    outputs = {name: f"${{{{ steps.best.value.{name} }}}}" for name in members[0].outputs}
    place: Node = vote if vote is not None else judge if judge is not None else node
    laid = root.copy()
    for key in _OWN:
        laid.entries.pop(key, None)
        laid.keys.pop(key, None)
    for key, value in (("steps", steps), ("outputs", outputs)):
        laid.entries[key] = placed(value, place)
        laid.keys[key] = placed(key, place)  # type: ignore[assignment]
    return laid


def judging_module(lm: str, members: int, here: bool) -> Module:
    """Return the module by which the LM of the id `lm` picks the best of the answers of `members` members: its inputs
    are `task` and `answers`, its output `best` is the number of an answer, from 1, as text.

    With `here` the LM can constrain its reply to these numbers, and does.
    """
    return Module(
        JUDGE,
        lm,
        {"task": Field(JSON), "answers": Field(ListOf(JSON))},
        {"best": Field(Enum(tuple(str(number) for number in range(1, members + 1))))},
        Layout(
            Template("{{ instructions }}", frozenset({"instructions"})),
            Template(_USER, frozenset({"task", "answers"})),
            None,
        ),
        INSTRUCTIONS,
        decoding="constrained" if here else "free",
    )
