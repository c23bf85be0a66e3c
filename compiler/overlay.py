"""Writing of overlays: files that extend a spec with an optimizer's changes."""

from __future__ import annotations

import os
from collections.abc import Mapping as Map
from pathlib import Path
from typing import Any

import yaml

from lmprog.compiler.compilation import compile_file
from lmprog.compiler.yaml.whole_file import write_whole
from lmprog.compiler.yaml.writer import BlockDumper, dump, style_of, unwritable


class _Dumper(BlockDumper):
    """The YAML writer of overlays: long texts become literal blocks, short mappings of scalars stand in one line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # A reader of the overlay should not take these words for a template or a reference.
    style = '"' if "{{" in value and "\n" not in value else style_of(value)
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _rows(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.Node:
    node = dumper.represent_mapping("tag:yaml.org,2002:map", value.items())
    short = all(isinstance(item, str | int | float | bool) for item in value.values())
    width = sum(len(str(key)) + len(str(item)) + 4 for key, item in value.items())
    if short and value and width <= 100 and not any("\n" in str(item) for item in value.values()):
        node.flow_style = True
    return node


def _list(dumper: yaml.SafeDumper, value: list[Any] | tuple[Any, ...]) -> yaml.Node:
    numbers = all(isinstance(item, int | float) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=numbers or None)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(tuple, _list)
_Dumper.add_representer(dict, _rows)


def write_overlay(path: Path | str, base_path: Path | str, change: Map[str, Any], tuned: Map[str, Any]) -> str:
    """Write an overlay at `path` that extends `base_path` with `change`, and the block `tuned:` last; return its text.

    `change` has blocks of the spec by key, as `modules`; empty ones are left out. `tuned` gets the digest of the
    program in the base's file (`base_digest`), without the values that a command overrode for the run, so that a check
    finds out when the base has changed; none where the base has errors. Raises ValueError, and writes nothing, for a
    text that cannot be written to a file, and OSError where the file cannot be written.
    """
    path, base_path = Path(path), Path(base_path)
    relative = os.path.relpath(base_path.resolve(), path.resolve().parent)
    extends = relative if relative.startswith(os.pardir) else f"./{relative}"
    extends = Path(extends).as_posix() if os.sep != "/" else extends
    parts: list[dict[str, Any]] = [{key: _block(value)} for key, value in change.items() if value]
    parts.append({"tuned": {**tuned, **_base(base_path)}})
    head = {"lmprog": 1, "extends": extends}
    for key, value in [pair for part in (head, *parts) for pair in part.items()]:
        why = unwritable(value)
        if why is not None:
            raise ValueError(f"no overlay is written to {path}: `{key}` holds {why}")
    text = "\n".join([dump(head), *(dump(part, _Dumper) for part in parts)])
    write_whole(path, text)
    return text


def _base(base_path: Path) -> dict[str, str]:
    plan = compile_file(base_path, data=False, imports=False).plan
    return {"base_digest": plan.digest} if plan is not None else {}


def _block(value: Any) -> Any:
    return {key: _block(item) for key, item in value.items()} if isinstance(value, Map) else value
