"""The nodes of a prompt flow as its file has them: their variants, files and inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmprog.imports.files import may_read
from lmprog.imports.program import identifier


def named(flow: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a flow that are mappings with a name, in their order."""
    found = [node for node in flow["nodes"] if isinstance(node, dict)]
    return [node for node in found if isinstance(node.get("name"), str) and node["name"]]


def with_variant(flow: Mapping[str, Any], node: dict[str, Any], say: Callable[[str, str], None]) -> dict[str, Any]:
    """Return a node of `flow` with the settings of its default variant (the first where none is named), where it uses
    variants, else unchanged. `say(section, text)` is called for each variant that is left out.
    """
    variants = entries(flow.get("node_variants")).get(node["name"])
    if not node.get("use_variants") or variants is None:
        return node
    known = entries(variants.get("variants"))
    chosen = str(variants.get("default_variant_id") or next(iter(known), ""))
    for id in known:
        if id != chosen:
            say("steps", f"the variant `{id}` of the node `{node['name']}`; the program has `{chosen}`")
    return {**node, **entries(known.get(chosen)).get("node", {}), "name": node["name"]}


def source_of(flow: Path, node: Mapping[str, Any]) -> Path | None:
    """Return the file with the prompt or code of a node of the flow in the file `flow`; None where the node names none, where
    there is none, and where it lies outside of the flow's git checkout (else its folder), since its text would be copied.
    """
    source = node.get("source")
    written = source.get("path") if isinstance(source, dict) else None
    path = flow.parent / str(written)
    return path if written and may_read(flow, path) and os.path.isfile(path) else None


def entries(value: Any) -> dict[str, dict[str, Any]]:
    """Return the entries of a mapping that are mappings themselves, with their keys as texts; empty for any other
    value.
    """
    found = value if isinstance(value, dict) else {}
    return {str(key): entry for key, entry in found.items() if isinstance(entry, dict)}


def given(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a node by name, as a new mapping, without those whose name is no identifier."""
    inputs = node.get("inputs")
    return {name: value for name, value in inputs.items() if is_argument(name)} if isinstance(inputs, dict) else {}


def is_argument(name: object) -> bool:
    """Return whether the key of a node's input is a name that `identifier` leaves as it is."""
    return isinstance(name, str) and name == identifier(name)
