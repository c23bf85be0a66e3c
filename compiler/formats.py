"""How a module's outputs stand in a reply: described to the model, written in a demo, read from what the model said.

`read(write(values)) == values` for every format, but for two things that only `json` can say: an optional text that is
blank or the word null, which is nothing in the other two, and in `text` a text that begins with a `<think>` block, which is
taken for a model's thinking. What had to be forgiven to read a reply is reported, never hidden.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from lmprog.compiler.forgiving import Unreadable, by_name, lines, number, one_of, truth, without_thinking
from lmprog.compiler.loose_json import STRICT, find
from lmprog.compiler.types import (
    BOOL,
    FLOAT,
    INT,
    JSON,
    STR,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
    json_schema,
    mismatch,
    without_none,
)

if TYPE_CHECKING:
    from lmprog.compiler.plan import Field

__all__ = ["Format", "Reading", "Unreadable", "as_text", "describe", "escaped", "read", "write"]

Format = Literal["text", "fields", "json"]


@dataclass(frozen=True)
class Reading:
    """The outputs of a reply, and what was forgiven in it (empty where it was as asked for)."""

    values: Mapping[str, Any]
    forgiven: tuple[str, ...] = ()


def describe(format: Format, outputs: Mapping[str, Field]) -> str:
    """What the standard layout tells the model about its reply; empty where there is nothing to say."""
    if format == "json":
        schema = {name: json_schema(field.type) for name, field in outputs.items()}
        return (
            f"Reply with one JSON object and nothing else, with these fields: {json.dumps(schema, ensure_ascii=False)}"
        )
    if format == "fields":
        lines = [f"<{name}>{_hint(field)}</{name}>" for name, field in outputs.items()]
        return "\n".join(["Reply with these sections and nothing else:", *lines])
    ((name, field),) = outputs.items()
    if field.type == STR:
        return f"Reply with the {_words(name)} and nothing else{_about(field)}." if field.about else ""
    return f"Reply with the {_words(name)} and nothing else: {_hint(field)}."


def write(format: Format, outputs: Mapping[str, Field], values: Mapping[str, Any]) -> str:
    """The reply that holds `values`, as the model should have written it; outputs without a value are left out."""
    present = {name: values[name] for name in outputs if name in values}
    if format == "json":
        return json.dumps(present, ensure_ascii=False)
    if format == "fields":
        written = {name: escaped(name, as_text(value, outputs[name].type)) for name, value in present.items()}
        return "\n".join(f"<{name}>{text}</{name}>" for name, text in written.items())
    return "".join(as_text(value, outputs[name].type) for name, value in present.items())


def read(format: Format, outputs: Mapping[str, Field], text: str, cut: bool = False) -> Reading:
    """The outputs in a reply. Raises Unreadable.

    `cut` says that the reply ended at its limit of tokens: JSON that is not closed then lacks something, and is refused.
    """
    forgiven: list[str] = []
    text = without_thinking(outputs, text, forgiven)
    if format == "json":
        found = _object(outputs, text.strip(), forgiven, cut)
    elif format == "fields":
        found = _sections(outputs, text, forgiven)
        if not all(name in found or _may_lack(field) for name, field in outputs.items()):
            found = _other_sections(outputs, text, found, forgiven, cut)
    else:
        found = {next(iter(outputs)): text}
    try:
        return Reading(_values(format, outputs, found, forgiven, cut), tuple(dict.fromkeys(forgiven)))
    except RecursionError:
        raise Unreadable("the reply holds JSON that is nested too deeply") from None


def _values(
    format: Format, outputs: Mapping[str, Field], found: Mapping[str, Any], forgiven: list[str], cut: bool
) -> dict[str, Any]:
    values = {}
    for name, field in outputs.items():
        if name in found:
            value = found[name]
            as_it_is = not isinstance(value, str) or (format == "json" and mismatch(value, field.type) is None)
            values[name] = value if as_it_is else _typed(name, value, field.type, forgiven, cut)
            wrong = mismatch(values[name], field.type)
            if wrong:
                raise Unreadable(f"{name}: {wrong}")
        elif _may_lack(field):
            values[name] = field.default
        else:
            raise Unreadable(f"the reply has no {name}")
    return values


def _may_lack(field: Field) -> bool:
    return field.has_default or isinstance(field.type, Optional)


def as_text(value: Any, kind: Type) -> str:
    """A value as it stands in a reply: strings as they are, all else, and what may be anything, as JSON."""
    bare = isinstance(value, str) and without_none(kind) != JSON
    return value if bare else json.dumps(value, ensure_ascii=False)


def escaped(name: str, text: str) -> str:
    """A text that holds the end of its own section gets a backslash there, as `<\\/name>`."""
    return re.sub(rf"<(\\*)/{re.escape(name)}>", rf"<\1\\/{name}>", text)


def _unescaped(name: str, text: str) -> str:
    if "<\\" not in text:
        return text
    return re.sub(rf"<\\(\\*)/{re.escape(name)}>", rf"<\1/{name}>", text)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _about(field: Field) -> str:
    return f" ({field.about.strip().rstrip('.')})" if field.about else ""


def _hint(field: Field) -> str:
    kind = field.type.inner if isinstance(field.type, Optional) else field.type
    if isinstance(kind, Enum):
        said = "one of " + ", ".join(kind.values)
    elif isinstance(kind, ListOf | Object) or kind not in (STR, INT, FLOAT, BOOL):
        said = f"JSON of the schema {json.dumps(json_schema(kind), ensure_ascii=False)}"
    else:
        said = {STR: "text", INT: "a whole number", FLOAT: "a number", BOOL: "true or false"}[kind]
    if field.about and kind == STR:
        said = field.about.strip().rstrip(".")
    elif field.about:
        said += _about(field)
    return said + (", or nothing" if isinstance(field.type, Optional) else "")


def _sections(outputs: Mapping[str, Field], text: str, forgiven: list[str]) -> dict[str, str]:
    """The text of each `<name>...</name>`; one that is not closed ends where the next one opens."""
    opening = _opening(tuple(outputs))
    found: dict[str, str] = {}
    position = 0
    while opened := opening.search(text, position):
        name = opened[1]
        closed = text.find(f"</{name}>", opened.end())
        if closed < 0:
            following = opening.search(text, opened.end())
            forgiven.append(f"</{name}> is missing")
            closed = following.start() if following else len(text)
            value = text[opened.end() : closed].strip()
        else:
            value = text[opened.end() : closed]
        found.setdefault(name, _unescaped(name, value))
        position = max(closed, opened.end())
    return found


@lru_cache(maxsize=256)
def _opening(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"<({'|'.join(map(re.escape, names))})>")


def _other_sections(
    outputs: Mapping[str, Field], text: str, exact: Mapping[str, str], forgiven: list[str], cut: bool
) -> Mapping[str, Any]:
    """The sections that `_sections` missed: tags of another spelling or, without any tags, an object or `name: value` lines."""
    spelt = _TAG.sub(lambda tag: f"<{tag[1]}{_spelling(outputs, tag[2])}>", text)
    if spelt != text and (found := _sections(outputs, spelt, forgiven)):
        forgiven.append("another spelling of a section's tags")
        return {**found, **exact}
    if exact:
        return exact
    passed: list[str] = []
    try:
        fields = _object(outputs, text.strip(), passed, cut)
        if fields.keys() & outputs.keys():
            forgiven += [*passed, "JSON in place of sections"]
            return fields
    except Unreadable:
        pass
    found = lines(outputs, text)
    if found:
        forgiven.append("lines in place of sections")
    return found


_TAG = re.compile(r"<\s*(/?)\s*([A-Za-z][\w -]*?)\s*(?:\s\w+\s*=[^<>]*)?>")


def _spelling(outputs: Mapping[str, Field], tag: str) -> str:
    """The output that a tag names in other letters, else the tag as it is."""
    folded = re.sub(r"[\s-]", "_", tag.lower())
    return next((name for name in outputs if name.lower() == folded), tag)


def _typed(name: str, text: str, kind: Type, forgiven: list[str], cut: bool) -> Any:
    """The value of type `kind` that a text stands for."""
    if isinstance(kind, Optional):
        return None if not text.strip() or text.strip() == "null" else _typed(name, text, kind.inner, forgiven, cut)
    if kind == STR or str(kind) == "image":
        return text
    if isinstance(kind, Enum):
        return one_of(text, kind, forgiven)
    stripped = text.strip()
    if kind == BOOL:
        return truth(name, stripped, forgiven)
    if kind in (INT, FLOAT):
        return number(name, stripped, kind, forgiven)
    opening = "{" if isinstance(kind, Object) else "[" if isinstance(kind, ListOf) else "[{"
    found = _json(name, stripped, opening, forgiven, cut)
    return _unwrapped(found, forgiven) if isinstance(kind, Object) else found


def _object(outputs: Mapping[str, Field], text: str, forgiven: list[str], cut: bool) -> Mapping[str, Any]:
    found = _unwrapped(_json("the reply", text, "{", forgiven, cut), forgiven)
    if not isinstance(found, dict):
        raise Unreadable("the reply is not a JSON object")
    return by_name(outputs, found, forgiven)


def _unwrapped(value: Any, forgiven: list[str]) -> Any:
    """The object in a list that holds nothing else; other values as they are."""
    if not (isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)):
        return value
    forgiven.append("a list around a JSON object")
    return value[0]


def _json(name: str, text: str, opening: str, forgiven: list[str], cut: bool) -> Any:
    """The JSON in a text. Raises Unreadable."""
    try:
        return STRICT.decode(text)
    except (ValueError, RecursionError):
        pass
    try:
        return find(text, opening, forgiven, cut)
    except LookupError:
        raise Unreadable(f"{name} holds no JSON") from None
    except ValueError as error:
        raise Unreadable(f"{name} holds JSON that cannot be read: {error}") from None
