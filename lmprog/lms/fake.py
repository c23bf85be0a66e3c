"""An LM that answers at once with values of the declared types: for dry runs and for showing prompts. No model is asked."""

from __future__ import annotations

from typing import Any

from lmprog.compiler.plan import Field
from lmprog.compiler.replies import formats
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, MESSAGES, Enum, ListOf, Object, Optional, Type
from lmprog.lms.lm import Completion, Request, Usage


class FakeLM:
    """A test double, and `lmprog run --fake`: each reply reads back as a value of every output's type."""

    async def complete(self, request: Request) -> Completion:
        kind = request.output_type
        outputs = {name: Field(inner) for name, inner in kind.fields} if isinstance(kind, Object) else {}
        values = {name: placeholder(name, field.type) for name, field in outputs.items()}
        return Completion(text=formats.write(request.format, outputs, values), usage=Usage(0, 0, 0.0))


def placeholder(name: str, kind: Type) -> Any:
    """Return a value of type `kind` that contains the name of the value that it replaces."""
    if isinstance(kind, Optional):
        return placeholder(name, kind.inner)
    if isinstance(kind, Enum):
        return kind.values[0]
    if isinstance(kind, ListOf):
        return [placeholder(name, kind.item)]
    if isinstance(kind, Object):
        return {field: placeholder(field, inner) for field, inner in kind.fields}
    simple: dict[Type, Any] = {INT: 1, FLOAT: 0.5, BOOL: True, MESSAGES: [{"role": "user", "content": f"({name})"}]}
    return simple.get(kind, f"({name})")
