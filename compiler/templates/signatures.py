"""The signatures of a template's filters, tests and string methods: what they take, and the type of their result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    IMAGE,
    INT,
    JSON,
    MESSAGES,
    STR,
    UNKNOWN,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
    Unknown,
    join,
    type_of,
    without_none,
)


def is_text(kind: Type) -> bool:
    """Return whether values of the type are texts: `str`, an enum, or the path of an image; False for an optional text
    and for UNKNOWN (which `is_text` of the expression language takes for a text)."""
    return kind in (STR, IMAGE) or isinstance(kind, Enum)


def is_number(kind: Type) -> bool:
    """Return whether jinja can do arithmetic with values of the type: numbers and booleans; False for optional ones,
    json and UNKNOWN (which `is_number` of the expression language takes for a number, and no boolean)."""
    return kind in (INT, FLOAT, BOOL)


def is_iterable(kind: Type) -> bool:
    """Return whether a loop can run over any value of the type: texts, lists, objects and messages; False for json,
    which may be a number, for optional values and for UNKNOWN."""
    return is_text(kind) or isinstance(kind, ListOf | Object) or kind == MESSAGES


_CLASSES: dict[str, tuple[str, Callable[[Type], bool]]] = {
    "any": ("any value", lambda kind: True),
    "text": ("a text", is_text),
    "number": ("a number", is_number),
    "whole": ("a whole number", lambda kind: kind in (INT, BOOL)),
    "many": ("a list, a text or an object", is_iterable),
    "numbers": ("a list of numbers", lambda kind: isinstance(kind, ListOf) and _fits("number", kind.item)),
    "texts": ("a list of texts", lambda kind: is_text(kind) or (isinstance(kind, ListOf) and _fits("text", kind.item))),
    "object": ("an object", lambda kind: isinstance(kind, Object)),
}


def _fits(wanted: str, kind: Type) -> bool:
    return isinstance(kind, Unknown) or kind == JSON or _CLASSES[wanted][1](kind)


Result = Callable[[Type, Sequence[Type]], Type]
"""Function from the type of the value that a filter, test or method is applied to, and the types of its arguments without a
name, to the type of the result."""


@dataclass(frozen=True, eq=False)
class Signature:
    """The parameter and result types of a filter, test or method of templates.

    `takes` (the value it is applied to) and `arguments` are classes of types, such as "text", which are the keys of
    `_CLASSES`. The first `least` arguments must be given. `result` returns the type of the result for the types of the
    value and of the arguments.
    """

    takes: str
    result: Result
    arguments: tuple[str, ...] = ()
    least: int = 0
    """Minimum number of arguments."""

    def wrong(self, name: str, kind: Type, arguments: Sequence[Type], named: int = 0) -> tuple[str, str] | None:
        """Return the code (LMP203 or LMP204) and message for a wrong use of the filter, test or method `name` on a value of
        the type `kind`, with arguments of the types `arguments` and `named` more that have a name; None where the use is
        right. A null as an argument is right."""
        if isinstance(kind, Optional) and self.takes != "any":
            return "LMP204", f"`{name}` takes {_CLASSES[self.takes][0]}, and this is {kind}: it may be absent here"
        if not _fits(self.takes, kind):
            return "LMP203", f"`{name}` takes {_CLASSES[self.takes][0]}, not {kind}"
        if len(arguments) > len(self.arguments):
            return "LMP203", f"`{name}` takes at most {len(self.arguments)} argument(s), not {len(arguments)}"
        if len(arguments) + named < self.least:
            return "LMP203", f"`{name}` needs {self.least} argument(s)"
        for wanted, given in zip(self.arguments, arguments, strict=False):
            if given != type_of(None) and not _fits(wanted, given):
                return "LMP203", f"`{name}` takes {_CLASSES[wanted][0]} as its argument, not {given}"
        return None


def item_of(kind: Type) -> Type:
    """Return the type of an item in a loop over a value of type `kind`: `str` for texts and for objects, whose names
    are run over; json for json and messages; UNKNOWN for what no loop can run over, and for an optional value."""
    if isinstance(kind, ListOf):
        return kind.item
    return STR if is_text(kind) or isinstance(kind, Object) else JSON if kind in (MESSAGES, JSON) else UNKNOWN


def _always(kind: Type) -> Result:
    return lambda piped, arguments: kind


def _same(piped: Type, arguments: Sequence[Type]) -> Type:
    return ListOf(item_of(piped))


def _item(piped: Type, arguments: Sequence[Type]) -> Type:
    return item_of(piped)


def _parts(piped: Type, arguments: Sequence[Type]) -> Type:
    filler = arguments[1] if len(arguments) > 1 else item_of(piped)
    return ListOf(ListOf(join(item_of(piped), filler) or UNKNOWN))


def _number(kind: Type) -> Result:
    def result(piped: Type, arguments: Sequence[Type]) -> Type:
        return join(kind, arguments[0]) or UNKNOWN if arguments else kind

    return result


def _default(piped: Type, arguments: Sequence[Type]) -> Type:
    # Without its second argument, `default` stands in for what is undefined, and not for none.
    if len(arguments) < 2:
        return piped
    return join(without_none(piped), arguments[0]) or UNKNOWN


def _sum(piped: Type, arguments: Sequence[Type]) -> Type:
    item = item_of(piped)
    return UNKNOWN if arguments else item if item in (INT, FLOAT) else INT if item == BOOL else UNKNOWN


def _reversed(piped: Type, arguments: Sequence[Type]) -> Type:
    return STR if is_text(piped) else ListOf(item_of(piped))


def _magnitude(piped: Type, arguments: Sequence[Type]) -> Type:
    return INT if piped == BOOL else piped


_TEXT = _always(STR)
_LISTED = _always(ListOf(UNKNOWN))

FILTER_SIGNATURES: dict[str, Signature] = {
    "abs": Signature("number", _magnitude),
    "batch": Signature("many", _parts, ("any", "any"), 1),
    "capitalize": Signature("any", _TEXT),
    "d": Signature("any", _default, ("any", "any")),
    "default": Signature("any", _default, ("any", "any")),
    "dictsort": Signature("object", _LISTED, ("any", "text", "any")),
    "e": Signature("any", _TEXT),
    "escape": Signature("any", _TEXT),
    "first": Signature("many", _item),
    "float": Signature("any", _number(FLOAT), ("any",)),
    "groupby": Signature("many", _LISTED, ("any", "any", "any"), 1),
    "indent": Signature("text", _TEXT, ("any", "any", "any")),
    "int": Signature("any", _number(INT), ("any", "any")),
    "items": Signature("object", _LISTED),
    "join": Signature("many", _TEXT, ("any", "any")),
    "last": Signature("many", _item),
    "length": Signature("many", _always(INT)),
    "count": Signature("many", _always(INT)),
    "list": Signature("many", _same),
    "lower": Signature("any", _TEXT),
    "map": Signature("many", _LISTED, ("any",) * 8),
    "max": Signature("many", _item, ("any", "any")),
    "min": Signature("many", _item, ("any", "any")),
    "reject": Signature("many", _same, ("any",) * 4),
    "rejectattr": Signature("many", _same, ("any",) * 4, 1),
    "replace": Signature("any", _TEXT, ("any", "any", "whole"), 2),
    "reverse": Signature("many", _reversed),
    "round": Signature("number", _always(FLOAT), ("whole", "text")),
    "select": Signature("many", _same, ("any",) * 4),
    "selectattr": Signature("many", _same, ("any",) * 4, 1),
    "slice": Signature("many", _parts, ("whole", "any"), 1),
    "sort": Signature("many", _same, ("any", "any", "any")),
    "string": Signature("any", _TEXT),
    "sum": Signature("many", _sum, ("any", "any")),
    "title": Signature("any", _TEXT),
    "tojson": Signature("any", _TEXT, ("any",)),
    "trim": Signature("any", _TEXT, ("text",)),
    "truncate": Signature("text", _TEXT, ("number", "any", "text", "number")),
    "unique": Signature("many", _same, ("any", "any")),
    "upper": Signature("any", _TEXT),
    "wordcount": Signature("any", _always(INT)),
    "wordwrap": Signature("text", _TEXT, ("whole", "any", "text", "any")),
}
"""The signatures of the filters that a template may use, by name: pure, deterministic, and without a way to Python."""

_YES = _always(BOOL)
_COMPARISONS = (
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "gt",
    "greaterthan",
    ">",
    "ge",
    ">=",
    "lt",
    "lessthan",
    "<",
    "le",
    "<=",
)
TEST_SIGNATURES: dict[str, Signature] = {
    **{
        name: Signature("any", _YES)
        for name in ("boolean", "callable", "defined", "escaped", "false", "float", "integer", "iterable", "lower",
                     "mapping", "none", "number", "sequence", "string", "true", "undefined", "upper", "filter", "test")
    },
    **{name: Signature("any", _YES, ("any",), 1) for name in (*_COMPARISONS, "sameas")},
    "in": Signature("any", _YES, ("many",), 1),
    "even": Signature("number", _YES),
    "odd": Signature("number", _YES),
    "divisibleby": Signature("number", _YES, ("number",), 1),
}  # fmt: skip
"""The signatures of the tests of templates, as in `x is none`, by name."""

ORDERINGS = frozenset({"gt", "greaterthan", ">", "ge", ">=", "lt", "lessthan", "<", "le", "<="})
"""The names of the tests that compare two values by their order."""

METHOD_SIGNATURES: dict[str, Signature] = {
    **{name: Signature("text", _TEXT) for name in ("lower", "upper", "title", "capitalize")},
    **{name: Signature("text", _TEXT, ("text",)) for name in ("strip", "lstrip", "rstrip")},
    **{name: Signature("text", _always(ListOf(STR)), ("text", "whole")) for name in ("split", "rsplit")},
    **{name: Signature("text", _YES) for name in ("isdigit", "isalpha")},
    **{name: Signature("text", _YES, ("text", "whole", "whole"), 1) for name in ("startswith", "endswith")},
    **{name: Signature("text", _TEXT, ("text",), 1) for name in ("removeprefix", "removesuffix")},
    **{name: Signature("text", _always(INT), ("text", "whole", "whole"), 1) for name in ("count", "find")},
    "splitlines": Signature("text", _always(ListOf(STR)), ("any",)),
    "replace": Signature("text", _TEXT, ("text", "text", "whole"), 2),
    "join": Signature("text", _TEXT, ("texts",), 1),
}
"""The signatures of the only methods that a template may call, all of texts, by name."""

_TEXT_FILTERS = frozenset(name for name, known in FILTER_SIGNATURES.items() if known.result is _TEXT)


def prints_well(name: str, kind: Type) -> bool:
    """Return whether the text that the filter `name` makes of a value of type `kind` has no Python notation in it, as a list
    in capitals or joined lists would; True for a filter that makes no text, and for `tojson`."""
    if name not in _TEXT_FILTERS or name == "tojson":
        return True
    if name == "join":
        kind = item_of(kind)
    return not (isinstance(kind, ListOf | Object | Optional) or kind in (BOOL, JSON, MESSAGES))
