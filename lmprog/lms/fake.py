"""An LM that answers at once with made-up values of the declared types, for dry runs and for showing prompts."""

from __future__ import annotations

from typing import Any

from lmprog.compiler.plan import Field
from lmprog.compiler.replies import formats
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, MESSAGES, Enum, ListOf, Object, Optional, Type, json_schema
from lmprog.compiler.types.schema_values import schema_value
from lmprog.lms.lm import Completion, Request, Usage


class FakeLM:
    """The LM of dry runs and of `--fake`: it asks no model, and each reply has a made-up value for every output
    of the module.
    """

    async def complete(self, request: Request) -> Completion:
        """Return a reply, in the format of the request, whose values have the types of its outputs; it has no values
        where the request has no output type. It uses no tokens, costs nothing, calls no tool, and is not streamed.
        """
        kind = request.output_type
        outputs = {name: Field(inner) for name, inner in kind.fields} if isinstance(kind, Object) else {}
        values = {name: placeholder(name, field.type) for name, field in outputs.items()}
        return Completion(text=formats.write(request.format, outputs, values), usage=Usage(0, 0, 0.0))


def placeholder(name: str, kind: Type) -> Any:
    """Return a made-up value of type `kind`; texts in it hold `name`, so that a reader sees which output they stand for."""
    if isinstance(kind, Optional):
        return placeholder(name, kind.inner)
    if isinstance(kind, Enum):
        return kind.values[0]
    if isinstance(kind, ListOf):
        return [placeholder(name, kind.item)]
    if isinstance(kind, Object):
        if kind.model is not None:
            from lmprog.compiler.types import pydantic_models  # only where a program has one

            value, refused = pydantic_models.validated(kind.model, schema_value(name, json_schema(kind)))
            if refused is None:
                return value
        return {field: placeholder(field, inner) for field, inner in kind.fields}
    simple: dict[Type, Any] = {INT: 1, FLOAT: 0.5, BOOL: True, MESSAGES: [{"role": "user", "content": f"({name})"}]}
    return simple.get(kind, f"({name})")
