"""Reading and checks of the `optimize:` block: metric, rewards, what is tuned, and the stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.ensembles import KEY
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.optimizing.language import TUNABLE
from lmprog.compiler.optimizing.stage_options import check_options
from lmprog.compiler.optimizing.teachers import read_teachers
from lmprog.compiler.optimizing.trace_types import reads
from lmprog.compiler.plan import Optimize, Stage
from lmprog.compiler.yaml.source import Mapping, Node, Place, Scalar, Sequence

ALTERNATE = "alternate"
"""The name of an entry of `stages` that is no optimizer, but stands for rounds of others."""
MAX_ROUNDS = 1000
"""Maximum rounds of one `alternate`, all of whose stages are written out."""
MAX_STAGES = 10_000
"""Maximum stages that one `alternate` stands for, with those of the `alternate` inside it."""


def read_optimize(draft: Draft) -> Optimize | None:
    """Return the `optimize:` block; None where the program has none. Names that do not exist and options that a stage
    does not take become findings, and leave the rest to be read."""
    node = draft.root.map("optimize")
    if node is None:
        return None
    metric = node.value("metric", "")
    if metric:
        named(draft, node, "metric", metric, draft.metrics, "metrics")
    reward, rewards = _rewards(draft, node)
    compares(draft, node, "metric", metric)
    proposer = node.value("proposer")
    if proposer is not None:
        named(draft, node, "proposer", proposer, draft.lms, "lms")
        draft.used.add(("lms", proposer))
    for key, default in (("train", "train"), ("validate", "dev")):
        split = node.value(key, default)
        if split not in draft.data and not data_lost(draft, split):
            place = node.entries[key].place if key in node.entries else draft.key("optimize")
            message = f"optimize needs the {split} data, which the program does not have"
            draft.report.add("LMP103", place, message, fix=f"add data: {split}:")
    return Optimize(
        metric,
        node.value("train", "train"),
        node.value("validate", "dev"),
        tune=_tune(draft, node.map("tune")),
        stages=_stages(draft, node.get("stages")),
        budget=node.value("budget", {}),
        seed=node.value("seed", 0),
        proposer=proposer,
        adapters=node.value("adapters", "per_lm"),
        accept=node.value("accept", "composition"),
        instructions=_candidates(draft, node.map("instructions")),
        reward=reward,
        rewards=rewards,
        teachers=read_teachers(draft, written_stages(node.get("stages"))),
        declassify=node.value("declassify"),
        report_to=tuple(node.value("report_to", ())),
        batch=node.value("batch", False),
    )


def named(draft: Draft, node: Mapping, key: str, id: str, known: Any, section: str) -> None:
    """Report (LMP103) the id `id`, which stands under the key `key` of `node`, where it is not among `known`, the ids of
    the spec's section `section`; not where it was written there and has a finding of its own."""
    if id not in known and id not in draft.dropped(section) and not draft.dropped_top(section):
        message = f"`{key}` names `{id}`, which does not exist"
        draft.report.add("LMP103", node.entries[key].place, message, fix=suggestion(id, known, section))


def _rewards(draft: Draft, node: Mapping) -> tuple[str | None, dict[str, str]]:
    """Return the metric under `reward` that training follows (None: none is written, or single modules have their own),
    and the metrics of single modules by module id."""
    written = node.get("reward")
    if isinstance(written, Scalar):
        named(draft, node, "reward", written.value, draft.metrics, "metrics")
        return written.value, {}
    if not isinstance(written, Mapping):
        return None, {}
    found = {}
    for id, entry in written.entries.items():
        if _module(draft, written, id, "reward"):
            named(draft, written, id, entry.plain(), draft.metrics, "metrics")
            found[id] = entry.plain()
    return None, found


def compares(draft: Draft, node: Mapping, key: str, metric: str) -> None:
    """Report (LMP603) the metric `metric`, named under the key `key` of `node`, where it reads `runs`, all runs of a row:
    there it scores single runs, and only a reward may compare them."""
    if metric in draft.metrics and reads(draft.metrics, metric, "runs"):
        message = f"the metric `{metric}` compares the runs of a row, and only a reward is given them"
        draft.report.add(
            "LMP603", node.entries[key].place, message, fix=f"write reward: {metric}, and another metric here"
        )


def data_lost(draft: Draft, split: str) -> bool:
    """Return whether a data split that the program lacks was written nevertheless: under its name, in `fractions`, or in
    a `data` block that could not be read. It has a finding of its own then."""
    node = draft.root.map("data")
    if node is None:
        return draft.dropped_top("data")
    fractions = node.map("fractions")
    lost = split in node.entries or split in node.dropped or "fractions" in node.dropped
    return lost or (fractions is not None and (split in fractions.entries or split in fractions.dropped))


def _tune(draft: Draft, node: Mapping | None) -> dict[str, frozenset[str]]:
    """Return the parts that are tuned of each module, by module id; without `tune` (None) the instructions and demos of
    all modules, and the weights of those whose one LM can be trained."""
    if node is None:
        found = {}
        for id, module in draft.modules.items():
            lm = draft.lms.get(module.lm)
            found[id] = frozenset(
                TUNABLE[: 3 if lm is not None and lm.trained_as is not None and len(lm.answering) == 1 else 2]
            )
        return found
    found = {}
    for id, entry in node.entries.items():
        if _module(draft, node, id, "tune"):
            found[id] = frozenset(entry.plain())
    return found


def tuned_place(draft: Draft, id: str, part: str) -> Place:
    """Return the place of a part, such as `demos`, of the module `id` under `tune:`; the place of the module's list where
    the part is not in it, and that of the key `optimize` where the module is not there."""
    listed = draft.node("optimize", "tune", id)
    for item in listed.items if isinstance(listed, Sequence) else ():
        if item.plain() == part:
            return item.place
    return draft.place("optimize", "tune", id) if listed is not None else draft.key("optimize")


def _module(draft: Draft, node: Mapping, id: str, key: str) -> bool:
    """Return whether there is a module `id`, which the mapping `node` under the key `key` names; report it where not."""
    if id in draft.modules:
        return True
    if id not in draft.dropped("modules"):
        message = f"`{key}` names the module `{id}`, which does not exist"
        draft.report.add("LMP103", node.key_place(id), message, fix=suggestion(id, draft.modules, "modules"))
    return False


def _stages(draft: Draft, node: Node | None) -> tuple[Stage, ...]:
    """Return the stages in the order in which they run, with the rounds of an `alternate` written out; a stage that cannot
    be read is left out, with a finding."""
    stages: list[Stage] = []
    for entry in node.items if isinstance(node, Sequence) else ():
        name_place, options = entry.place, None
        if isinstance(entry, Scalar):
            name = entry.value
        elif isinstance(entry, Mapping) and len(entry.entries) == 1:
            name, options = next(iter(entry.entries.items()))
            name_place = entry.key_place(name)
        else:
            draft.report.add(
                "LMP101", entry.place, "a stage is one optimizer with its options", fix="write - name: {...}"
            )
            continue
        if isinstance(options, Scalar) and options.value is None:
            options = None
        if name == ALTERNATE:
            stages += _rounds(draft, entry, options)
            continue
        if options is not None and not isinstance(options, Mapping):
            draft.report.add("LMP101", options.place, f"the options of stage `{name}` must be a mapping")
            continue
        if name == KEY and isinstance(options, Mapping):
            draft.used.add(("lms", options.value("judge")))
        if draft.options.stage_configs is not None:
            check_options(draft, name, name_place, options)
        stages.append(Stage(name, options.plain() if options is not None else {}))
    return tuple(stages)


def _rounds(draft: Draft, entry: Node, options: Node | None) -> list[Stage]:
    """Return the stages of an `alternate`, the node `entry` with its `options`, repeated for each of its rounds; an empty
    list, with a finding, where these cannot be read."""
    fix = "write - alternate: {rounds: 2, of: [prompt_search, grpo]}"
    if not isinstance(options, Mapping) or not options.entries.keys() <= {"rounds", "of"}:
        draft.report.add("LMP101", entry.place, "`alternate` takes `rounds` and `of`, the stages of a round", fix=fix)
        return []
    rounds, listed = options.value("rounds", 2), options.get("of")
    if not isinstance(rounds, int) or isinstance(rounds, bool) or not 1 <= rounds <= MAX_ROUNDS:
        bounds = f"from 1 to {MAX_ROUNDS:,}" if isinstance(rounds, int) and rounds > MAX_ROUNDS else "from 1 on"
        message = f"`rounds` must be a whole number {bounds}"
        draft.report.add("LMP101", options.entries["rounds"].place, message, fix=fix)
        return []
    if not isinstance(listed, Sequence) or not listed.items:
        draft.report.add("LMP101", entry.place, "`alternate` needs `of`, the stages of a round", fix=fix)
        return []
    stages = _stages(draft, listed)
    if rounds * len(stages) > MAX_STAGES:
        message = f"this `alternate` stands for {rounds * len(stages):,} stages, and {MAX_STAGES:,} are the most"
        draft.report.add("LMP101", options.key_place("rounds"), message, fix="write fewer rounds")
        return []
    return rounds * list(stages)


def written_stages(listed: Node | None) -> Iterator[Node]:
    """Yield the nodes of `stages` in order, those inside an `alternate` once in its place. A node that is no list, or
    None, yields nothing."""
    for entry in listed.items if isinstance(listed, Sequence) else ():
        options = entry.get(ALTERNATE) if isinstance(entry, Mapping) else None
        if isinstance(options, Mapping):
            yield from written_stages(options.get("of"))
        else:
            yield entry


def _candidates(draft: Draft, node: Mapping | None) -> dict[str, tuple[str, ...]]:
    """Return the instructions to try under `instructions`, by module id; empty for None."""
    if node is None:
        return {}
    return {id: tuple(entry.plain()) for id, entry in node.entries.items() if _module(draft, node, id, "instructions")}
