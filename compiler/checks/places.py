"""Expressions in sections whose values are not evaluated, where they would be taken as text (101)."""

from __future__ import annotations

from lmprog.compiler.draft import Draft
from lmprog.compiler.tools.kinds import kind_of
from lmprog.compiler.types.values import seeming_reads
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence

_FREE = {
    "lms": frozenset({"api_key", "api_base", "headers"}),
    "tools": frozenset[str](),
    "optimize": frozenset({"instructions"}),
    "data": frozenset[str](),
    "tests": frozenset[str](),
    "export": frozenset({"otlp", "headers"}),
}
"""The sections that hold plain values, with the keys in them that may hold expressions or are sent as they are."""


def check(draft: Draft) -> None:
    """Report texts with `${{` in the sections `lms`, `tools`, `optimize`, `data`, `tests` and `export`, but for the keys whose
    values are evaluated there, or sent as they are. The finding is LMP101."""
    for section, free in _FREE.items():
        node = draft.root.get(section)
        if section == "tools":
            free = frozenset(tool.kind for tool in draft.tools.values() if kind_of(tool.kind).environment)
            free |= {"mcp"} if draft.servers else set()
        elif section == "export" and draft.export is not None:
            free |= {draft.export.key}
        if node is not None:
            _walk(draft, section, node, free)


def _walk(draft: Draft, section: str, node: Node, free: frozenset[str]) -> None:
    if isinstance(node, Mapping):
        for key, value in node.entries.items():
            if key not in free:
                _walk(draft, section, value, free)
    elif isinstance(node, Sequence):
        for value in node.items:
            _walk(draft, section, value, free)
    elif isinstance(node, Scalar) and isinstance(node.value, str) and "${{" in node.value:
        draft.binder.reads |= seeming_reads(node.value)
        place = node.at(node.value.index("${{"), 3)
        fix = "write the value itself; --set changes it for one command"
        if section == "tests":
            fix = "write the value itself, checks of it such as `contains`, or an expression under `assert`"
        draft.report.add("LMP101", place, f"an expression has no value here: `{section}` is fixed", fix=fix)
