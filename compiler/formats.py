"""How a module's outputs stand in a reply: described to the model, written in a demo, read from what the model said.

`read(write(values)) == values` for every format, but for one thing that only `json` can say: an optional text that is
blank or the word null is nothing in the other two. What had to be forgiven to read a reply is reported, never hidden.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

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

Format = Literal["text", "fields", "json"]


class Unreadable(Exception):
    """A reply that does not hold the outputs; the message says what is wrong with it, fit to be shown to the model."""


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
        written = {name: _escaped(name, as_text(value, outputs[name].type)) for name, value in present.items()}
        return "\n".join(f"<{name}>{text}</{name}>" for name, text in written.items())
    return "".join(as_text(value, outputs[name].type) for name, value in present.items())


def read(format: Format, outputs: Mapping[str, Field], text: str) -> Reading:
    """The outputs in a reply. Raises Unreadable."""
    forgiven: list[str] = []
    if format == "json":
        found = _json_object(text, forgiven)
    elif format == "fields":
        found = _sections(outputs, text, forgiven)
    else:
        found = {next(iter(outputs)): text}
    try:
        return Reading(_values(format, outputs, found, forgiven), tuple(dict.fromkeys(forgiven)))
    except RecursionError:
        raise Unreadable("the reply holds JSON that is nested too deeply") from None


def _values(
    format: Format, outputs: Mapping[str, Field], found: Mapping[str, Any], forgiven: list[str]
) -> dict[str, Any]:
    values = {}
    for name, field in outputs.items():
        if name in found:
            value = found[name]
            as_it_is = not isinstance(value, str) or (format == "json" and mismatch(value, field.type) is None)
            values[name] = value if as_it_is else _typed(name, value, field.type, forgiven)
            wrong = mismatch(values[name], field.type)
            if wrong:
                raise Unreadable(f"{name}: {wrong}")
        elif field.has_default or isinstance(field.type, Optional):
            values[name] = field.default
        else:
            raise Unreadable(f"the reply has no {name}")
    return values


def as_text(value: Any, kind: Type) -> str:
    """A value as it stands in a reply: strings as they are, all else, and what may be anything, as JSON."""
    bare = isinstance(value, str) and without_none(kind) != JSON
    return value if bare else json.dumps(value, ensure_ascii=False)


def _escaped(name: str, text: str) -> str:
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


def _typed(name: str, text: str, kind: Type, forgiven: list[str]) -> Any:
    """The value of type `kind` that a text stands for."""
    if isinstance(kind, Optional):
        return None if not text.strip() or text.strip() == "null" else _typed(name, text, kind.inner, forgiven)
    if kind == STR or str(kind) == "image":
        return text
    if isinstance(kind, Enum):
        return _one_of(text, kind, forgiven)
    stripped = text.strip()
    if kind in (INT, FLOAT, BOOL):
        return _scalar(name, stripped, kind, forgiven)
    return _json(name, stripped, forgiven)


def _one_of(text: str, kind: Enum, forgiven: list[str]) -> str:
    stripped = text.strip()
    if text in kind.values or stripped in kind.values:
        return text if text in kind.values else stripped
    bare = stripped.strip("\"'`*.,:;!?()[]<> \n").lower().replace(" ", "_")
    matches = [value for value in kind.values if value.lower().replace(" ", "_") == bare]
    if len(matches) == 1:
        forgiven.append("case, quotes or punctuation around an enum value")
        return matches[0]
    return stripped


def _scalar(name: str, text: str, kind: Type, forgiven: list[str]) -> Any:
    if kind == BOOL:
        lowered = text.strip(".\"'`").lower()
        if lowered not in ("true", "false", "yes", "no"):
            raise Unreadable(f"{name}: {text[:60]!r} is neither true nor false")
        if lowered != text:
            forgiven.append("case or quotes around a truth value")
        return lowered in ("true", "yes")
    number = re.fullmatch(r"[-+]?(\d[\d,]*)(\.\d+)?([eE][-+]?\d+)?", text.strip(".\"'`"))
    if number is None or (kind == INT and (number[2] or number[3])):
        raise Unreadable(f"{name}: {text[:60]!r} is not {'a whole number' if kind == INT else 'a number'}")
    if number[0] != text or "," in text:
        forgiven.append("quotes or separators in a number")
    plain = number[0].replace(",", "")
    try:
        value = int(plain) if kind == INT else float(plain)
    except ValueError:  # Python reads no whole number of more than 4300 digits
        raise Unreadable(f"{name}: {text[:60]!r}... has too many digits") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise Unreadable(f"{name}: {text[:60]!r} is too large for a number")
    return value


def _json_object(text: str, forgiven: list[str]) -> dict[str, Any]:
    found = _json("the reply", text.strip(), forgiven)
    if not isinstance(found, dict):
        raise Unreadable("the reply is not a JSON object")
    return found


def _json(name: str, text: str, forgiven: list[str]) -> Any:
    """The JSON in a text, which may stand in a code fence, among other words, or have trailing commas."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        pass
    fenced = re.search(r"```(?:json)?\s*(.*?)\s*(?:```|$)", text, re.DOTALL)
    if fenced:
        forgiven.append("a code fence around JSON")
        text = fenced[1]
    start = re.search(r"[\[{]", text)
    if start is None:
        raise Unreadable(f"{name} holds no JSON")
    candidate = text[start.start() :]
    for attempt, note in ((candidate, None), (_without_trailing_commas(candidate), "a trailing comma in JSON")):
        try:
            value, end = _DECODER.raw_decode(attempt)
        except (ValueError, RecursionError) as error:
            problem = getattr(error, "msg", None) or str(error)
            continue
        if note:
            forgiven.append(note)
        if start.start() > 0 or attempt[end:].strip():
            forgiven.append("words around JSON")
        return value
    raise Unreadable(f"{name} holds JSON that cannot be read: {problem}")


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


_DECODER = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


def _without_trailing_commas(text: str) -> str:
    """Strings are matched whole first, so that a comma inside one is left alone."""
    return re.sub(r'("(?:[^"\\]|\\.)*")|,(\s*[\]}])', lambda found: found[1] or found[2], text)
