"""Other layouts of a prompt that has the standard one: the same words and values, arranged in another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.compiler.plan import Field, Module
from lmprog.compiler.prompts.messages import IMAGES, TURNS, hole, standard_layout
from lmprog.compiler.replies.formats import as_text
from lmprog.compiler.replies.reading import read
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, Enum, Type

Prompt = Mapping[str, str]
"""The `prompt` of a module in a spec: the templates `system`, `user` and `assistant`."""


def layouts(module: Module) -> list[Prompt]:
    """Return alternative layouts of a module's prompt; none where its author laid out the prompt, or where there is no
    system message.

    The first names each input, and the output where there is only one. In the others the demos' replies name the output, as
    `label: yes`, with inputs unnamed and with inputs named: a small model repeats the name and gives fewer unreadable
    replies. They are only for a module whose output can be read from such a line, and not for `decoding: constrained`,
    whose replies can all be read and may not name the output.
    """
    standard = standard_layout(module.inputs, module.outputs, module.format)
    if module.layout != standard or standard.system is None:
        return []
    system = standard.system.text
    shown = {name: field.type for name, field in module.inputs.items() if field.type not in TURNS + IMAGES}
    named = "\n".join(f"{name}: {hole(name, kind)}" for name, kind in shown.items())
    if module.format != "text":
        return [{"system": system, "user": named}]
    ((answer, field),) = module.outputs.items()
    found: list[Prompt] = [{"system": system, "user": f"{named}\n{answer}:"}]
    if module.decoding == "free" and _is_found(answer, field):
        assistant = f"{answer}: {hole(answer, field.type)}"
        found += [{"system": system, "user": user, "assistant": assistant} for user in (standard.user.text, named)]
    return found


def _is_found(answer: str, field: Field) -> bool:
    """Return whether values of an output are read from replies that name the output before them."""
    values: Sequence[Any] = field.type.values if isinstance(field.type, Enum) else _VALUES.get(field.type, ())
    try:
        said = [read("text", {answer: field}, f"{answer}: {as_text(value, field.type)}").values for value in values]
    except Unreadable:
        return False
    return bool(said) and said == [{answer: value} for value in values]


_VALUES: dict[Type, Sequence[Any]] = {INT: (7, -12), FLOAT: (0.5, -12.0), BOOL: (True, False)}
