"""The shape of a type as a spec writes it."""

from __future__ import annotations

from lmprog.compiler.shape import Anything, Either, Lazy, MapOf, Shape, Text

TYPE = Lazy(lambda: _TYPE, "type")
_TYPE: Shape = Either(
    scalar=Text(),
    mapping=Anything(),
    instead='write the values of an enum as {enum: [...]}, and a list of texts as "list[str]"',
    about="A type: str int float bool json list[T] T? messages image, {field: T}, {enum: [...]}, or the long form "
    "{type, about, private, default, declassify}.",
)
TYPED = MapOf(TYPE, "field", about="Names with their types.")
