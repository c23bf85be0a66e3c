"""The shape of a type as a spec writes it, and of its long form."""

from __future__ import annotations

from lmprog.compiler.shape import Anything, Boolean, Either, Lazy, ListOf, MapOf, Record, Shape, Text

TYPE = Lazy(lambda: _TYPE, "type")
WRITTEN_OUT = Anything()
"""A type that is a mapping: an object of types, an enum, or the long form."""
_TYPE: Shape = Either(
    scalar=Text(),
    mapping=WRITTEN_OUT,
    instead='write the values of an enum as {enum: [...]}, and a list of texts as "list[str]"',
    about="A type: str int float bool json list[T] T? messages image, {field: T}, {enum: [...]}, or the long form "
    "{type, about, private, default, declassify}.",
)
TYPED = MapOf(TYPE, "field", about="Names with their types.")
LONG_FORM = Record(
    {
        "type": Lazy(lambda: _TYPE, "type", about="The type itself.", example='"list[str]"'),
        "enum": Either(
            scalar=Text(),
            sequence=ListOf(Text(), 1),
            about="The only values that it can have, in place of `type`; one expression over `vars` may give the list.",
            example="[refund, delivery, other]",
        ),
        "about": Text(
            about="What it is, for whoever fills it in: it stands in the prompt.",
            default="nothing is said of it",
            example="The customer's message.",
        ),
        "private": Boolean(
            about="Whether untrusted LMs and tools may not see it; for inputs.", default="false", example="true"
        ),
        "default": Anything(
            about="The value where none is given; for inputs.", default="a value must be given", example="none"
        ),
        "declassify": Anything(
            about="Why this output of a private value is private no more; for outputs of modules.",
            default="it stays private",
            example="rewritten to leave out who is asking",
        ),
    },
    one_of=("type", "enum"),
    about="The long form of an input, an output or a field.",
)
"""The shape of the long form, for editors and the JSON schema. It is not compared by `fit` but read by `syntax.py`: where a
mapping is an object of types, the same words are names of its fields."""
