"""The outputs of a module as text: described to the model, and written in a demo. `replies.reading` reads them.

`read(write(values)) == values` for every format, but for an optional text that is blank or the word null, which is nothing
but in `json`, and a text that begins with a block of thinking marks (`<think>`), which is taken for a model's thinking (in
`text` and `fields` also a block that begins a line).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from lmprog.compiler.replies.section_text import write as write_section
from lmprog.compiler.types.lattice import (
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
    without_none,
)

if TYPE_CHECKING:
    from lmprog.compiler.plan import Field

Format = Literal["text", "fields", "json"]


def describe(format: Format, outputs: Mapping[str, Field]) -> str:
    """Return the sentence of the standard prompt that asks for the outputs in the reply format; empty for the format `text`
    with an output of type `str` without `about`. The format `text` takes one output."""
    if format == "json":
        schema = {name: _described(field) for name, field in outputs.items()}
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
    """Return a reply that holds `values` (outputs by name) in the format, as demos show it; outputs without a value are left
    out, and values that are no outputs too."""
    present = {name: values[name] for name in outputs if name in values}
    if format == "json":
        present = {name: _aliased(value, outputs[name].type) for name, value in present.items()}
        return json.dumps(present, ensure_ascii=False)
    if format == "fields":
        return "\n".join(write_section(name, as_text(value, outputs[name].type)) for name, value in present.items())
    return "".join(as_text(value, outputs[name].type) for name, value in present.items())


def as_text(value: Any, kind: Type) -> str:
    """Return a value of type `kind` as text for a reply: strings unchanged; all else, None too, and strings of type
    `json`, as JSON, with the fields of pydantic models under their aliases."""
    bare = isinstance(value, str) and without_none(kind) != JSON
    return value if bare else json.dumps(_aliased(value, kind), ensure_ascii=False)


def _aliased(value: Any, kind: Type) -> Any:
    """Return a value with the fields of pydantic models under their aliases, as the schema has them."""
    kind = without_none(kind)
    if isinstance(kind, ListOf) and isinstance(value, list):
        return [_aliased(item, kind.item) for item in value]
    if isinstance(kind, Object) and kind.model is not None and isinstance(value, Mapping):
        from lmprog.compiler.types import pydantic_models  # only where a program has one

        return pydantic_models.aliased(kind.model, dict(value)) if pydantic_models.has_aliases(kind.model) else value
    return value


def _described(field: Field) -> dict[str, Any]:
    """Return the JSON schema of an output, with its `about` as the description."""
    about = {"description": field.about.strip()} if field.about else {}
    return {**json_schema(field.type), **about}


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
    # A text may be the word nothing itself, so that a reply is read as no text where it is blank or null.
    absent = ", or null" if kind == STR else ", or nothing"
    return said + (absent if isinstance(field.type, Optional) else "")
