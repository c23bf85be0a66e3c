"""Nodes of a prompt flow that only make a text (`type: prompt`), as expressions: a text with values in its places."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes

from lmprog.imports.flow_prompts import has_parts
from lmprog.imports.flow_values import FlowValues
from lmprog.imports.program import identifier

_ENVIRONMENT = Environment(trim_blocks=True, keep_trailing_newline=True)
"""The settings with which prompt flow renders nodes of `type: prompt`."""


def pieces(text: str) -> list[tuple[bool, str]] | None:
    """Return the parts of a Jinja template in order, without its comments, each with True for the name of a variable
    and False for text; empty for an empty one.

    None where it has conditions, loops, filters or parts of values, or cannot be read.
    """
    try:
        body = _ENVIRONMENT.parse(text).body
    except (TemplateSyntaxError, RecursionError, ValueError):
        return None
    found: list[tuple[bool, str]] = []
    for node in _printed(body):
        if isinstance(node, nodes.TemplateData):
            found.append((False, node.data))
        elif isinstance(node, nodes.Name):
            found.append((True, node.name))
        else:
            return None
    return found


def _printed(body: list[nodes.Node]) -> Iterator[nodes.Node]:
    """Yield the nodes of a template's body, with the expressions and texts that it prints one by one."""
    for node in body:
        yield from node.nodes if isinstance(node, nodes.Output) else [node]


def text_nodes(found: Mapping[str, Mapping[str, Any]], read: Callable[[Mapping[str, Any]], str | None]) -> set[str]:
    """Return the ids of the nodes that become a step which computes a text: those of `type: prompt` whose template only puts
    values in their places. `found` are the nodes of a flow by id, and `read` returns a node's template (None: it has none).
    """
    return {
        id
        for id, node in found.items()
        if node.get("type") == "prompt" and (text := read(node)) is not None and pieces(text) is not None
    }


def expression(values: FlowValues, id: str, text: str, given: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the expression, without `${{ }}`, of a step that computes the text which the template `text` of the node
    `id` gives, and True if it writes a list or object as JSON, where the flow writes it as Python does.

    `given` are the node's inputs by variable; a variable without one is empty. `values` gets an input of the program
    for each node without a step that is read. `pieces` must be able to read the template: for another one the text is
    empty.
    """
    parts: list[str] = []
    as_json = False
    for is_name, piece in pieces(text) or ():
        if not is_name:
            parts.append(json.dumps(piece, ensure_ascii=False))
            continue
        value = given.get(piece)
        reference = values.reference(value)
        if reference is None:
            parts.append(json.dumps("" if value is None else str(value), ensure_ascii=False))
            continue
        kind = "str" if values.node(reference) in values.missing else values.kind(reference)
        read = values.read(reference, id, kind)
        as_json |= has_parts(kind)
        whole = kind == "str" or (kind is None and reference.endswith((".output", ".value")))
        parts.append(read if whole else f"json({read})" if has_parts(kind) else f"str({read})")
    return " + ".join(parts) or '""', as_json


def step_output(values: FlowValues, id: str) -> str:
    """Return the name of the output of the step for a node, by the node's name or id: `value` where the step computes a text,
    else `output`.
    """
    return "value" if identifier(id) in values.texts else "output"
