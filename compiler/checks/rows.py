"""The rows of the data against what the program needs of them (601, 602), and template marks in them (803)."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import nearest
from lmprog.compiler.modules import listed_demos
from lmprog.compiler.plan import Plan
from lmprog.compiler.rows.feedback import FEEDBACK_COLUMNS
from lmprog.compiler.rows.files import Row, row_place
from lmprog.compiler.types.lattice import JSON, Enum, Optional, Type, mismatch, without_none
from lmprog.compiler.types.meant import meant
from lmprog.compiler.yaml.source import Mapping, Place, Scalar, Sequence

_MARKS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


def check(draft: Draft, plan: Plan) -> None:
    """Report columns, values and rows of the data that the program cannot use, and rows that stand twice (LMP601); rows of
    dev or test that are in train too (LMP602); and template marks in instructions, demos and inputs of rows, which are sent
    as they are (LMP803). Only the splits whose rows were read are looked at."""
    for split, rows in draft.rows.items():
        _split(draft, plan, split, rows)
    _overlap(draft, plan)
    _marks(draft, plan)


def _place(draft: Draft, split: str) -> Place:
    if draft.node("data", split) is not None:
        return draft.place("data", split)
    return draft.place("data", "fractions", "from")


def _split(draft: Draft, plan: Plan, split: str, rows: list[Row]) -> None:
    place = _place(draft, split)
    if not rows:
        draft.report.add("LMP601", place, f"the {split} data have no rows")
        return
    _columns(draft, plan, split, rows, place)
    if plan.data[split].feedback and not any(name in row for row in rows for name in FEEDBACK_COLUMNS):
        message = f"the {split} data have none of the columns of feedback: {', '.join(FEEDBACK_COLUMNS)}"
        fix = "leave `feedback: true` out, or make the rows with `lmprog rows`"
        draft.report.add("LMP601", place, message, severity="warning", fix=fix)
    empty = {index for index, row in enumerate(rows) if all(value in (None, "", [], {}) for value in row.values())}
    if empty:
        place_of = _line(plan, split, min(empty))
        message = f"the {split} data have {len(empty)} empty row(s), the first is row {min(empty)}{place_of}"
        draft.report.add("LMP601", place, message, fix="remove them")
    seen: dict[Hashable, int] = {}
    repeated: list[tuple[int, int]] = []
    for index, row in enumerate(rows):
        first = seen.setdefault(_key(row), index)
        if first != index and index not in empty:
            repeated.append((first, index))
    if repeated:
        first, again = repeated[0]
        said = f"row {again} is row {first} again{_line(plan, split, again)}"
        message = f"the {split} data have {len(repeated)} row(s) twice; {said}"
        draft.report.add("LMP601", place, message, severity="warning", fix="remove them")


def _columns(draft: Draft, plan: Plan, split: str, rows: list[Row], place: Place) -> None:
    columns = {name for row in rows for name in row}
    source = plan.data[split]
    for name, column in source.columns.items():
        if name not in columns:
            node = draft.node("data", split, "columns", name)
            at = node.place if node is not None else place
            message = f"the {split} data have no column `{column}` for `{name}`"
            draft.report.add("LMP601", at, message, fix=f"columns: {', '.join(sorted(columns))}")
    for name in sorted(source.private - columns - set(source.columns.values())):
        # Splits that are cut from one file have its columns: one finding says it of all.
        cut = draft.node("data", split) is None
        message = (
            f"the data have no column `{name}` to be private"
            if cut
            else (f"the {split} data have no column `{name}` to be private")
        )
        draft.report.add("LMP601", place, message, fix=f"columns: {', '.join(sorted(columns))}")
    for name, field in plan.inputs.items():
        if name not in columns:
            if _renamed(draft, plan, name):
                continue
            if not field.has_default and not isinstance(field.type, Optional) and name not in source.columns:
                message = f"the {split} data have no column `{name}`, which is an input of the program"
                fix = f"columns: {', '.join(sorted(columns))}; rename one with columns: {{{name}: ...}}"
                draft.report.add("LMP601", place, message, fix=fix)
            continue
        _values(draft, plan, split, rows, name, field.type, place, field.has_default)
    _labels(draft, plan, split, rows, place)
    for name, kind in plan.output_types.items():
        if name in columns and name not in plan.inputs and isinstance(without_none(kind), Enum):
            _values(draft, plan, split, rows, name, kind, place, True)


def _renamed(draft: Draft, plan: Plan, name: str) -> bool:
    """Return whether an expression of the program reads an unknown input that was probably meant to be `name`."""
    unknown = {read[1] for read in draft.binder.reads if read[0] == "inputs" and len(read) > 1} - plan.inputs.keys()
    return any(nearest(other, [name]) for other in unknown)


def _labels(draft: Draft, plan: Plan, split: str, rows: list[Row], place: Place) -> None:
    """Report values outside of an enum, in a column that a metric takes beside the output of that enum, where the column has
    another name and most of its values are of the enum."""
    for metric in plan.metrics.values():
        texts = [argument.text for argument in metric.arguments.values()]
        outputs = [text.removeprefix("outputs.") for text in texts if text.startswith("outputs.")]
        columns = [text.removeprefix("row.") for text in texts if text.startswith("row.")]
        if len(outputs) != 1 or len(columns) != 1 or columns[0] in plan.output_types:
            continue
        kind = without_none(plan.output_types.get(outputs[0], JSON))
        found = [row.get(columns[0]) for row in rows]
        if isinstance(kind, Enum) and sum(
            isinstance(value, str) and value in kind.members for value in found
        ) * 2 > len(found):
            # Most are labels of this enum, so that this is what the column is.
            _values(draft, plan, split, rows, columns[0], kind, place, True)


def _line(plan: Plan, split: str, index: int) -> str:
    """Return the file and line of a row of a split as they stand behind a message; empty where the split is not the rows of
    a file in their order."""
    source = plan.data[split]
    whole = not source.where and source.share is None
    return row_place(source.path, index) if whole and source.path is not None else ""


def _values(
    draft: Draft, plan: Plan, split: str, rows: list[Row], name: str, kind: Type, place: Place, lax: bool
) -> None:
    wrong: list[tuple[int, str]] = []
    for index, row in enumerate(rows):
        value = row.get(name)
        if value is None and lax:
            continue
        problem = mismatch(value, kind) if name in row else "the value is absent"
        if problem is not None:
            wrong.append((index, problem))
    if wrong:
        index, problem = wrong[0]
        given = rows[index].get(name)
        private = name in plan.data[split].private or (name in plan.inputs and plan.inputs[name].private)
        if private and given is not None:  # reports are kept and shown where the data may not be
            problem, given = "its value is private, and not shown", None
        said = f"row {index}: {problem}{_line(plan, split, index)}"
        message = f"the column `{name}` of the {split} data is no {kind} in {len(wrong)} row(s): {said}"
        fix = meant(given, kind) if given is not None else None
        if name not in rows[index] or rows[index][name] is None:
            fix = f"add `{name}` to the row; an input that may be absent is of the type {kind}?, or has a default"
        draft.report.add("LMP601", place, message, fix=fix)


def _key(row: dict[str, Any]) -> Hashable:
    """Return a key that is equal for equal rows."""
    key = frozenset(row.items()) if all(isinstance(value, str) for value in row.values()) else None
    return key or json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)


def _overlap(draft: Draft, plan: Plan) -> None:
    train = draft.rows.get("train")
    if not train:
        return
    any_input = any(name in row for row in train for name in plan.inputs)

    def key(row: Row) -> Hashable:
        # An input may be absent from some rows.
        return _key({name: row.get(name) for name in plan.inputs}) if any_input else _key(row)

    known = {key(row): index for index, row in reversed(list(enumerate(train)))}
    for split in ("dev", "test"):
        rows = draft.rows.get(split, [])
        shared = [(index, known[key(row)]) for index, row in enumerate(rows) if key(row) in known]
        if shared:
            index, first = shared[0]
            said = f"row {index} is train row {first}{_line(plan, split, index)}"
            message = f"{len(shared)} row(s) of the {split} data are in train too; {said}"
            fix = "a score on rows that were trained on says nothing: remove them from one side"
            draft.report.add("LMP602", _place(draft, split), message, fix=fix)


# template marks


def _marks(draft: Draft, plan: Plan) -> None:
    for id, module in plan.modules.items():
        node = draft.node("modules", id, "instructions")
        if isinstance(node, Scalar) and module.instructions:
            _mark(draft, node, f"the instructions of module `{id}`")
        node = draft.node("modules", id)
        demos = listed_demos(node) if isinstance(node, Mapping) else None
        for demo in demos.items if demos is not None else ():
            for name, value in demo.entries.items() if isinstance(demo, Mapping) else ():
                if isinstance(value, Scalar):
                    _mark(draft, value, f"`{name}` of a demo of module `{id}`")
    candidates = draft.node("optimize", "instructions")
    for id, listed in candidates.entries.items() if isinstance(candidates, Mapping) else ():
        for value in listed.items if isinstance(listed, Sequence) else ():
            if isinstance(value, Scalar):
                _mark(draft, value, f"a candidate instruction of module `{id}`")
    for split, rows in draft.rows.items():
        for index, row in enumerate(rows):
            marked = next((n for n in plan.inputs if isinstance(row.get(n), str) and _MARKS.search(row[n])), None)
            if marked is not None:
                said = f"they are sent as they are{_line(plan, split, index)}"
                message = f"row {index} of the {split} data has template marks in `{marked}`: {said}"
                draft.report.add("LMP803", _place(draft, split), message)
                break


def _mark(draft: Draft, node: Scalar, what: str) -> None:
    found = _MARKS.search(node.value) if isinstance(node.value, str) else None
    if found:
        message = f"{what} holds template marks, which are sent as they are"
        fix = "only `prompt` is a template: write the variable there"
        draft.report.add("LMP803", node.at(found.start(), found.end() - found.start()), message, fix=fix)
