"""Validation of a client's inputs: JSON of bounded depth, finite numbers, images and files only as data URIs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lmprog.boundary.plain_values import texts_of
from lmprog.compiler.plan import Plan
from lmprog.compiler.steps.parts import programs
from lmprog.compiler.types.lattice import IMAGE, MAX_DEPTH, MESSAGES, ListOf, Object, Optional, Type, deeper
from lmprog.runtime.program import Program
from lmprog.serving.refusals import Refused

PLACES = ("url", "uri", "path", "file", "file_url", "file_path", "file_id", "image_url", "image_path")
"""Keys in the parts of a message that say where an image or a file is."""


def read_body(body: bytes | bytearray) -> dict[str, Any]:
    """Return a request body, parsed as a JSON object. Raises Refused where it is no JSON object in UTF-8, holds NaN or
    Infinity, or is nested deeper than MAX_DEPTH (100)."""
    try:
        found = json.loads(body.decode(), parse_constant=_not_finite)
    except (ValueError, RecursionError):
        raise Refused("body") from None
    if not isinstance(found, dict):
        raise Refused("body")
    if deeper(found):
        raise Refused("body", message=f"the body is nested deeper than {MAX_DEPTH}")
    return found


def checked(program: Program, inputs: Mapping[str, Any]) -> None:
    """Raise Refused for inputs that do not fit the program, and for images and files, also in the parts of messages, that
    are given by a path or an address instead of a data URI."""
    if wrong := program.wrong_inputs(inputs):
        raise Refused("input", "inputs", wrong)
    for name, value in inputs.items():
        if any(not text.startswith("data:") for text in _places(value, program.plan.inputs[name].type)):
            fix = "send images and files as data URIs (data:image/png;base64,...)"
            raise Refused("input", "inputs", f"the input {name!r} names a file or an address; {fix}")


def files_of(plan: Plan) -> frozenset[str]:
    """Return all texts in a program's spec and those of its sub-programs: an image file whose path is one of these may be
    read in a run for a client, and no other."""
    found = set(texts_of(plan.meaning))
    for inner in programs(plan.steps):
        found |= files_of(inner)
    return frozenset(found)


def _not_finite(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _places(value: Any, kind: Type) -> Iterator[str]:
    """Yield the addresses, paths and data URIs of the images and files in an input of the type `kind`."""
    if isinstance(kind, Optional):
        yield from _places(value, kind.inner) if value is not None else ()
    elif kind == IMAGE:
        yield str(value)
    elif kind == MESSAGES:
        for message in value:
            content = message.get("content") if isinstance(message, Mapping) else None
            for part in content if isinstance(content, list) else ():
                yield from _named(part)
    elif isinstance(kind, ListOf):
        for entry in value:
            yield from _places(entry, kind.item)
    elif isinstance(kind, Object):
        for name, inner in kind.fields:
            if name in value:
                yield from _places(value[name], inner)


def _named(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key in PLACES and isinstance(value, str):
                yield value
            else:
                yield from _named(value)
    elif isinstance(part, list):
        for entry in part:
            yield from _named(entry)
