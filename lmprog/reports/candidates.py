"""The candidates of an optimization as trees on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lmprog.compiler.artefacts.difference import layout_difference, words_difference
from lmprog.optimizers.candidate import Candidate
from lmprog.scoring.statistics import Estimate

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from lmprog.optimizers.journal.lineage import Entry, StageTree

STYLES = {"+": "green", "-": "red", "@": "cyan"}
"""The colour of a line of a diff by its first character."""
NAMED = 8
"""The first digits of a digest that name a candidate."""


def shown(trees: Sequence[StageTree], diff: bool = False) -> Iterator[Tree]:
    """Yield the tree of candidates of each stage, in the order of `trees`, as rich prints it on a console, with the dev scores
    of training steps below.

    With `diff`, each candidate has the diff of its texts from those of its first parent too.
    """
    from rich.text import Text
    from rich.tree import Tree

    for stage in trees:
        tree = Tree(Text(stage.stage, style="bold"))
        if stage.start is not None:
            _branch(tree, stage, stage.start, diff)
        for step, score in stage.steps.items():
            tree.add(Text(f"dev at step {step}: {Estimate.from_json(score)}"))
        if stage.ended and stage.start is None:
            tree.add(Text("<- chosen" if stage.changed else "no change", style="bold green"))
        yield tree


def _branch(tree: Tree, stage: StageTree, entry: Entry, diff: bool) -> None:
    """Add a candidate to a node of the tree, and its children below it."""
    node = tree.add(_line(stage, entry))
    if diff and entry.parents:
        node.add(_coloured(changes(stage, entry)), guide_style="dim")
    for child in stage.children(entry):
        _branch(node, stage, child, diff)


def changes(stage: StageTree, entry: Entry) -> list[str]:
    """Return the lines of a unified diff from the texts of a candidate's first parent to its own; one without a parent is
    compared with an empty candidate.
    """
    parent = stage.parent(entry)
    return between(stage.words(parent) if parent is not None else Candidate(), stage.words(entry))


def between(before: Candidate, after: Candidate) -> list[str]:
    """Return the lines of a unified diff from the instructions, demos and layouts of `before` to those of `after`; a
    module that `after` does not name is left out.

    Where `after` is an ensemble, the changes that each member makes come first, from empty texts.
    """
    lines = []
    for number, modules in enumerate(after.ensemble.get("members", ())):
        for module, changed in modules.items():
            listed = changed.get("demos", ())
            demos = listed["of"] if isinstance(listed, Mapping) else listed
            name = f"ensemble.members[{number}].{module}"
            lines += words_difference(name, ("", ()), (changed.get("instructions", ""), demos))
            lines += layout_difference(name, {}, changed.get("prompt", {}))
    for module in dict.fromkeys([*after.instructions, *after.demos, *after.layouts]):
        old, new = ((words.instructions.get(module, ""), words.demos.get(module, ())) for words in (before, after))
        lines += words_difference(f"modules.{module}", old, new)
        lines += layout_difference(f"modules.{module}", before.layouts.get(module, {}), after.layouts.get(module, {}))
    return lines


def _line(stage: StageTree, entry: Entry) -> Text:
    """Return the line of a candidate: its digest, score, refusal, changes and parents, and whether it is chosen."""
    from rich.text import Text

    line = Text(entry.digest[:NAMED] if entry.parents else "as it is", style="bold green" if entry.wins else "cyan")
    if entry.score is not None:
        line.append(f"  {Estimate.from_json(entry.score)} of {entry.rows} rows", style="default")
    if entry.refused is not None:
        line.append(f"  refused: {entry.refused.splitlines()[0]}", style="dim")
    if entry.parents:
        line.append(f"  {what(entry)}", style="dim")
    if len(entry.parents) > 1:
        line.append(f"  merged with {', '.join(parent[:NAMED] for parent in entry.parents[1:])}", style="dim")
    if entry.wins:
        line.append("  <- chosen" if entry.parents else "  <- chosen: stays as it is", style="bold green")
    return line


def what(entry: Entry) -> str:
    """Return a short list of the changes that a candidate holds, by module, as
    `sort: instructions, 4 demos; answer: layout`; of an ensemble the number of programs and how they choose. Empty
    where it changes no words."""
    parts: dict[str, list[str]] = {}
    for module in entry.words.instructions:
        parts.setdefault(module, []).append("instructions")
    for module, demos in entry.words.demos.items():
        shown = entry.words.nearest.get(module)
        count = f"{len(demos)} demos" if shown is None else f"the {shown} nearest of {len(demos)} demos"
        parts.setdefault(module, []).append(count)
    for module in entry.words.layouts:
        parts.setdefault(module, []).append("layout")
    if rule := entry.words.ensemble:
        picks = f"by the judge {rule['judge']}" if "judge" in rule else f"by a vote on {rule['vote']}"
        return f"{len(rule['members'])} programs, {picks}"
    return "; ".join(f"{module}: {', '.join(said)}" for module, said in parts.items())


def _coloured(lines: Sequence[str]) -> Text:
    """Return the lines of a diff as one coloured text."""
    from rich.text import Text

    return Text("\n").join(Text(line, style=STYLES.get(line[:1], "default")) for line in lines)
