"""The variables of a prompt in a prompt flow: the types of their values, and the module's arguments for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.compiler.types.lattice import STR, Type
from lmprog.imports.flow_values import FlowValues
from lmprog.imports.original import Original
from lmprog.imports.program import wrapped
from lmprog.imports.prompt_module import KnownInputs
from lmprog.imports.shapes import uses
from lmprog.imports.values import fitted


def known(
    values: FlowValues, id: str, original: Original, given: Mapping[str, Any], images: Sequence[str]
) -> KnownInputs:
    """Return what is known about the variables of a prompt node: types, samples, and which are passed as JSON text (those
    with parts that the template does not take apart).

    `given` are the inputs of the node `id` by variable, `original` is its prompt, and `images` are the variables that are
    images. Where an input reads a node without a step, `values` gets an input of the program in its place.
    """
    used = uses(original.text)
    declared: dict[str, str | None] = {}
    literal: dict[str, Any] = {}
    as_json, fixed = set(), set()
    for name, value in given.items():
        reference = values.reference(value)
        if reference is None:
            literal[name] = value
            continue
        apart = name in used and used[name].taken_apart
        if values.node(reference) in values.missing:
            reference = values.read(reference, id, str(used[name].type()) if apart else "str")
        kind = values.kind(reference)
        default = values.inputs.get(reference.removeprefix("inputs."), {}).get("default")
        if apart and default:
            literal[name] = default
        declared[name] = kind if kind is not None or apart else "str"
        if has_parts(kind) and not apart:
            as_json.add(name)
        elif apart and kind is not None and reference.removeprefix("inputs.") not in values.inputs:
            fixed.add(name)
    return KnownInputs(declared, literal, as_json, fixed, images)


def argument(values: FlowValues, id: str, value: Any, kind: Type) -> Any:
    """Return the argument of a step, as the spec writes it, for a variable of type `kind` to which the node `id` passes
    `value`: an expression for a reference, which makes a text of the value where the variable is a text, else the value
    itself, fitted to the type. `values` gets an input in place of a node without a step.
    """
    reference = values.reference(value)
    if reference is None:
        return fitted(value, kind)
    read = values.read(reference, id)
    own = values.kind(read if values.node(reference) in values.missing else reference)
    if kind != STR or own == "str":
        return wrapped(read)
    if has_parts(own):
        return wrapped(f"json({read})")
    whole = own is not None or reference.endswith(".output")
    return wrapped(read if whole else f"str({read})")


def has_parts(kind: str | None) -> bool:
    """Return whether values of a type, as the language writes it, are or may be (`json`) lists or objects; False for
    None, an unknown type.
    """
    return kind is not None and (kind == "json" or kind.startswith(("list[", "{")))
