"""Plain values as YAML that a person would write, and that the reader reads back as the same values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from lmprog.compiler.yaml.reader import DIFFERENT, MAX_DEPTH, is_plain_text

_HALF_PAIR = re.compile(r"[\ud800-\udfff]")
_ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""A character that is written as an escape: a control, a line break of another kind, a byte order mark, or none at all."""
_NUMBER = re.compile(r"^[-+.]?[0-9][0-9.eExXoO_+-]*$")
_DEPTH = MAX_DEPTH - 10
"""Maximum depth of a written value; its place in the file adds nesting around it."""


class BlockDumper(yaml.SafeDumper):
    """A YAML dumper of block style: no aliases, lists indented under their key, texts of several lines as literal blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        for key, _ in node.value:
            # A key of several lines, or a long one with odd spaces, is not read back as a block or between single quotes.
            if isinstance(key, yaml.ScalarNode) and (key.style == "|" or _ODD.search(key.value)):
                key.style = '"'
        return node

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        # The library refuses blocks where a line ends with a space, which YAML allows.
        analysis.allow_block = analysis.multiline and not _ODD.search(scalar)
        return analysis


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style_of(value))


def style_of(value: str) -> str | None:
    """Return the YAML style for a text: `|` for a block of several lines, `"` for a text that needs quotes or escapes, and
    None for one that reads back unquoted."""
    if _ODD.search(value):
        return '"'
    if value.endswith("\n\n"):
        return '"'  # What follows a block with blank lines at its end would be taken for more of them.
    if "\n" in value and value.strip():
        return (
            '"' if value.lstrip(" \n")[0] == "\t" else "|"
        )  # a block that begins with a tab is taken for indented by it
    other = DIFFERENT.match(value) or _NUMBER.match(value) or not is_plain_text(value)
    return '"' if other or value != value.strip() else None


BlockDumper.add_representer(str, _text)


def dump(value: Mapping[str, Any], dumper: type[BlockDumper] = BlockDumper) -> str:
    """Return the YAML text of a mapping of plain values for which `unwritable` returns None; keys keep their order. The
    reader reads the same values back."""
    text: str = yaml.dump(
        dict(value), Dumper=dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False
    )
    return text


def unwritable(value: Any, depth: int = 0) -> str | None:
    """Return the part of a plain value that no file can hold (half a surrogate pair, or a value nested more than 90 deep), in
    words that go on from "it holds"; None where there is none. Keys are looked at too. `depth` is the level of nesting so
    far."""
    if isinstance(value, str):
        half = _HALF_PAIR.search(value)
        return (
            None if half is None else f"half of a surrogate pair, U+{ord(half[0]):04X}, which no text in UTF-8 can hold"
        )
    if isinstance(value, Mapping | list | tuple):
        if depth >= _DEPTH:
            return f"a value that is nested more than {_DEPTH} deep"
        parts = [part for pair in value.items() for part in pair] if isinstance(value, Mapping) else value
        return next((why for part in parts if (why := unwritable(part, depth + 1)) is not None), None)
    return None
