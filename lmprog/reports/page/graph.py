"""The drawing of a program's steps: boxes in layers, each below the steps that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lmprog.compiler.bounds import turns
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import ModuleCall, Plan, ProgramCall, Step, ToolCall
from lmprog.compiler.steps.parts import bound, ending, expressions, inner

LETTER, LINE, GAP, BETWEEN = 7.3, 18, 18, 44
"""Width of a letter, height of a line, and the room beside and below a box."""
PADDING = 10
"""The room between the border of a box and its text."""
MOST = 300
"""The most steps of a program (those inside of loops not counted) of which a drawing is made."""


@dataclass(frozen=True)
class Box:
    """A box (its `kind`: `input`, `step` or `output`) called `name` (`inputs.NAME`, the step's id, or `outputs.NAME`),
    with the lines of its text and its place in the drawing.

    `layer` is its row, 0 at the top, `x` and `y` are its upper left corner, and `step` is the id of the step whose
    requests the page shows (None: an input or output, which has none).
    """

    name: str
    kind: str
    lines: Sequence[str]
    layer: int
    x: float = 0.0
    y: float = 0.0
    step: str | None = None

    @property
    def width(self) -> float:
        """The width of the box in units of the drawing."""
        return max(len(line) for line in self.lines) * LETTER + 2 * PADDING

    @property
    def height(self) -> float:
        """The height of the box in units of the drawing."""
        return len(self.lines) * LINE + 2 * PADDING - 6


@dataclass(frozen=True)
class Graph:
    """The drawing of a program: boxes in layers, and edges between them, each as the names of a box and of one that reads it,
    or waits for it (`needs`).
    """

    boxes: Sequence[Box]
    edges: Sequence[tuple[str, str]]

    @cached_property
    def width(self) -> float:
        """The width of the drawing, in its own units."""
        return max((box.x + box.width for box in self.boxes), default=0) + 1

    @cached_property
    def height(self) -> float:
        """The height of the drawing, in its own units."""
        return max((box.y + box.height for box in self.boxes), default=0) + 1

    @cached_property
    def paths(self) -> list[str]:
        """The values of the attribute `d` of an SVG path for each edge, in the order of `edges`: a curve from the
        bottom of a box to the top of the one that reads it, or that waits for it (`needs`).
        """
        by_name = {box.name: box for box in self.boxes}
        found = []
        for above, below in self.edges:
            start, end = by_name[above], by_name[below]
            x1, y1 = start.x + start.width / 2, start.y + start.height
            x2, y2 = end.x + end.width / 2, end.y
            middle = (y1 + y2) / 2
            found.append(f"M{x1:.1f} {y1:.1f}C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}")
        return found


def graph_of(plan: Plan) -> Graph | None:
    """Return the drawing of a program: its inputs in the first layer, each step below those that it reads, its outputs
    in the last; a loop is one box with a line for each step inside. None where it has more than MOST (300) steps, those
    inside of loops not counted."""
    if len(plan.steps) > MOST:
        return None
    edges = list(dict.fromkeys(_edges(plan)))
    layers: dict[str, int] = {f"inputs.{name}": 0 for name in plan.inputs}
    for step in plan.steps:
        above = [layers[one] for one, other in edges if other == step.id]
        layers[step.id] = 1 + max(above, default=0)
    last = 1 + max(layers.values(), default=0)
    boxes = [Box(f"inputs.{name}", "input", [name], 0) for name in plan.inputs]
    boxes += [Box(step.id, "step", _lines(plan, step), layers[step.id], step=step.id) for step in plan.steps]
    boxes += [Box(f"outputs.{name}", "output", [name], last) for name in plan.outputs]
    return Graph(_placed(boxes, edges), edges)


def _edges(plan: Plan) -> Iterable[tuple[str, str]]:
    """Yield the edges of the drawing, some perhaps twice."""
    for step in plan.steps:
        for expression in expressions(step):
            yield from _reads(plan, expression, step.id)
        for earlier in sorted(step.after):
            yield earlier, step.id
    for name, expression in plan.outputs.items():
        yield from _reads(plan, expression, f"outputs.{name}")


def _reads(plan: Plan, expression: Expression, reader: str) -> Iterable[tuple[str, str]]:
    """Yield an edge for each input and each other step that an expression of the box `reader` reads."""
    known = {step.id for step in plan.steps}
    for path in sorted(expression.references):
        if len(path) > 1 and path[0] == "inputs" and path[1] in plan.inputs:
            yield f"inputs.{path[1]}", reader
        elif len(path) > 1 and path[0] == "steps" and path[1] in known and path[1] != reader:
            yield path[1], reader


def _lines(plan: Plan, step: Step, indent: str = "") -> list[str]:
    """Return the text of a step's box: a line for the step, and further indented ones for the steps inside of it."""
    action = step.action
    if isinstance(action, ModuleCall):
        what = f"{action.module} ({plan.modules[action.module].lm})"
    elif isinstance(action, ToolCall):
        what = f"tool {action.tool}"
    elif isinstance(action, ProgramCall):
        what = f"program {action.plan.name}"
    elif bound(step) is not None:
        what = f"{'at most ' if ending(step) is not None else ''}{turns(plan, step)} turns"
    else:
        what = "value"
    notes = [*(["for each"] if step.foreach is not None else []), *(["if"] if step.when is not None else [])]
    note = f" ({', '.join(notes)})" if notes else ""
    lines = [f"{indent}{step.id}: {what}{note}"]
    for part in inner(step):
        lines += _lines(plan, part, f"{indent}  ")
    return lines


def _placed(boxes: Sequence[Box], edges: Sequence[tuple[str, str]]) -> list[Box]:
    """Return the boxes, in the same order, with their places: in each layer sorted by the middle of the boxes that they read,
    and all layers around one middle.
    """
    rows: dict[int, list[Box]] = {}
    for box in boxes:
        rows.setdefault(box.layer, []).append(box)
    widths = {layer: sum(box.width + GAP for box in row) - GAP for layer, row in rows.items()}
    whole = max(widths.values(), default=0)
    placed: dict[str, Box] = {}
    y = 1.0
    for layer in sorted(rows):
        above = {
            box.name: [placed[one] for one, other in edges if other == box.name and one in placed]
            for box in rows[layer]
        }
        row = sorted(rows[layer], key=lambda box: _middle(above[box.name], whole))
        x = (whole - widths[layer]) / 2 + 1
        for box in row:
            placed[box.name] = replace(box, x=x, y=y)
            x += box.width + GAP
        y += max(box.height for box in row) + BETWEEN
    return [placed[box.name] for box in boxes]


def _middle(above: Sequence[Box], whole: float) -> float:
    """Return the horizontal middle of some boxes; that of the drawing, whose width is `whole`, where there are none."""
    return sum(box.x + box.width / 2 for box in above) / len(above) if above else whole / 2
