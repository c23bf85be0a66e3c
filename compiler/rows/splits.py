"""Reading of `data:`: the sources of the splits, and the types of their columns."""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import replace
from pathlib import Path

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Field, HubRows, Split
from lmprog.compiler.rows.files import Row, RowsError
from lmprog.compiler.rows.reading import read_rows
from lmprog.compiler.types.lattice import (
    IMAGE,
    JSON,
    STR,
    UNKNOWN,
    Enum,
    Object,
    Optional,
    Type,
    Unknown,
    join,
    type_of,
)
from lmprog.compiler.yaml.files import followed, is_file, refusal
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence

SPLITS = ("train", "dev", "test")


def read_data(draft: Draft) -> dict[str, Split]:
    """Return the data splits by name, those under `fractions` included; no rows are read. A file that is absent gets a
    finding where `optimize` or a test needs its split, which is returned all the same."""
    node = draft.root.map("data")
    if node is None:
        return {}
    found = {}
    for name in SPLITS:
        entry = node.get(name)
        if entry is not None:
            split = _split(draft, name, entry)
            if split is not None:
                found[name] = split
    fractions = node.map("fractions")
    if fractions is not None:
        found |= _fractions(draft, fractions, found)
    return found


def _split(draft: Draft, name: str, node: Node, of_hub: str | None = None) -> Split | None:
    """Return the split `name` that a node describes; None, where it names neither a file nor a data set of the hub. Of the
    hub it has the rows of the split that is written, else `of_hub` (None: `name`)."""
    if isinstance(node, Scalar):
        return Split(name, _path(draft, name, node))
    if not isinstance(node, Mapping):
        return None
    columns, private = node.value("columns", {}), set(node.value("private", ()))
    # A column may be called private by its name in the file or in the program.
    private |= {name for name, column in columns.items() if column in private}
    common = {
        "columns": columns,
        "where": node.value("where", {}),
        "limit": node.value("limit"),
        "private": frozenset(private),
        "share": _part(draft, node),
        "feedback": node.value("feedback", False),
    }
    hub, written = node.get("hf"), node.get("path")
    if hub is not None:
        return Split(name, HubRows(hub.plain(), node.value("split", of_hub or name)), **common)
    return Split(name, _path(draft, name, written), **common) if isinstance(written, Scalar) else None


def _part(draft: Draft, node: Mapping) -> tuple[float, float] | None:
    """Return the share of the rows under `part`, as its start and end from 0 to 1; None where none can be read."""
    part = node.value("part")
    if part is None:
        return None
    if len(part) != 2 or not part[0] < part[1]:
        draft.report.add("LMP101", node.entries["part"].place, "`part` must be two fractions, as in [0, 0.8]")
        return None
    return float(part[0]), float(part[1])


def _path(draft: Draft, name: str, node: Scalar) -> Path:
    """Return the path of a split's file; one that may not be read, or is absent though the split is needed, gets a
    finding."""
    path: Path = followed(node.source.folder / node.value)
    if draft.reachable(node, f"the {name} data", node.value) is None:
        return path
    if not is_file(path) and name in _needed(draft):
        draft.file(node, f"the {name} data")
    return path


def _needed(draft: Draft) -> set[str]:
    """Return the names of the splits, and `from` of fractions, that `optimize` or gates among the tests need."""
    needed: set[str] = set()
    optimize = draft.root.map("optimize")
    if optimize is not None:
        needed |= {optimize.value("train", "train"), optimize.value("validate", "dev"), "test", "from"}
    tests = draft.root.get("tests")
    entries = (
        tests.items
        if isinstance(tests, Sequence)
        else list(tests.entries.values())
        if isinstance(tests, Mapping)
        else []
    )
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("data") is not None:
            needed |= {entry.value("data"), "from"}
    return needed


def _fractions(draft: Draft, node: Mapping, found: dict[str, Split]) -> dict[str, Split]:
    """Return the splits under `fractions`, each a share of the rows under `from`; those that are given twice, or go beyond
    the whole, get findings."""
    written = node.get("from")
    whole = _split(draft, "from", written, "train") if written is not None else None
    cuts: dict[str, Split] = {}
    low = 0.0
    for name in SPLITS:
        share = node.value(name)
        if share is None:
            continue
        if draft.root.map("data").get(name) is not None:  # type: ignore[union-attr]
            message = f"the {name} data are given twice: as `{name}` and in `fractions`"
            draft.report.add("LMP101", node.key_place(name), message, fix="remove one of them")
            continue
        high = round(low + share, 9)
        if high > 1:
            message = f"the fractions add up to {high:g}, more than 1"
            draft.report.add("LMP101", node.entries[name].place, message)
            break
        if whole is not None:
            cuts[name] = replace(whole, name=name, share=(low, high), seed=node.value("seed", 0))
        low = high
    return cuts


def with_texts(draft: Draft) -> dict[str, Split]:
    """Return the draft's data splits by name, each with `texts`: the columns of its file that must stay texts, since an
    input or output of their name is one."""
    texts = text_columns(draft.inputs) | {name for name, kind in draft.output_types.items() if _is_text(kind)}
    return {
        id: replace(split, texts=frozenset(split.columns.get(name, name) for name in texts))
        for id, split in draft.data.items()
    }


def text_columns(fields: Map[str, Field]) -> set[str]:
    """Return the names of the fields whose values are texts: of type str, enum or image, or one of these that is optional."""
    return {name for name, field in fields.items() if _is_text(field.type)}


def _is_text(kind: Type) -> bool:
    if isinstance(kind, Optional):
        return _is_text(kind.inner)
    return isinstance(kind, Enum) or kind in (STR, IMAGE)


def load_rows(draft: Draft) -> dict[str, list[Row]]:
    """Return the rows of the splits whose files exist on this machine and may be read, by split; a file that cannot be
    read gets a finding, and its split is left out. Splits on the hub are left out."""
    rows = {}
    for name, split in draft.data.items():
        if split.path is None or refusal(split.path, draft.options.root) is not None or not is_file(split.path):
            continue
        try:
            rows[name] = read_rows(split)
        except RowsError as error:
            place = draft.place("data", name) if draft.node("data", name) else draft.place("data", "fractions", "from")
            draft.report.add("LMP103", place, f"the {name} data: {error}")
    return rows


def row_type(draft: Draft) -> Type:
    """Return the type of `row`, by the rows that were read: an object of the columns that all splits have in common, and of
    those that a split renames. UNKNOWN where no rows were read, or a split is on the hub, so that any column may exist.
    """
    if not draft.rows or any(split.path is None for split in draft.data.values()):
        return UNKNOWN
    kinds = [column_types(rows) for rows in draft.rows.values() if rows]
    if not kinds:
        return UNKNOWN
    merged = dict(kinds[0])
    for other in kinds[1:]:
        merged = {name: _merged(kind, other[name]) for name, kind in merged.items() if name in other}
    # A column that the data lack has its finding where it is renamed.
    renamed = {name: UNKNOWN for split in draft.data.values() for name in split.columns if name not in merged}
    return Object((*merged.items(), *renamed.items()))


def column_types(rows: list[Row]) -> dict[str, Type]:
    """Return the type of each column that any row has, `json` where values have none in common; optional where a row
    lacks the column or holds null."""
    kinds: dict[str, Type] = {}
    counts: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            counts[name] = counts.get(name, 0) + 1
            kind = type_of(value)
            kinds[name] = _merged(kinds[name], kind) if name in kinds else kind
    return {
        name: Optional(kind) if counts[name] < len(rows) and not isinstance(kind, Optional) else kind
        for name, kind in kinds.items()
    }


def _merged(left: Type, right: Type) -> Type:
    """Return a type that takes the values of both, `json` where there is none; an unknown one gives way to the other."""
    if left == right:
        return left
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return right if isinstance(left, Unknown) else left
    found = join(left, right)
    return found if found is not None else JSON
