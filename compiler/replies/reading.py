"""Reading of replies: a module's outputs, found in the text of a reply in one of the formats.

Every repair that was needed to read a reply is reported, never hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmprog.compiler.replies import loose_json, sections, thinking
from lmprog.compiler.replies.spelling import MARKS, folded
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.replies.words import number, one_of, truth
from lmprog.compiler.types import pydantic_models
from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    IMAGE,
    INT,
    JSON,
    STR,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
    mismatch,
    without_none,
)

if TYPE_CHECKING:
    from lmprog.compiler.plan import Field
    from lmprog.compiler.replies.formats import Format


@dataclass(frozen=True)
class Reading:
    """The outputs read from a reply (`values`, by name, of their declared types), and the repairs that were needed
    (`forgiven`, as phrases; empty for a reply as asked for)."""

    values: Mapping[str, Any]
    forgiven: tuple[str, ...] = ()


def read(format: Format, outputs: Mapping[str, Field], text: str, cut: bool = False) -> Reading:
    """Return a module's outputs in the text of a reply. An optional output that is missing is None, one with a default has
    it. Raises Unreadable where another is missing, or one cannot be read as its type.

    With `cut` the reply ended at its limit of tokens: an output that is not closed is then incomplete and refused. Only
    where a text output is the whole reply is it read as far as it goes, which `forgiven` records. `format` (`text`,
    `fields` or `json`) is that of the module.
    """
    forgiven: list[str] = []
    try:
        values = _values(format, outputs, _found(format, outputs, text, forgiven, cut), forgiven, cut)
    except Unreadable as error:
        raise (Unreadable(f"{CUT}: {error}") if cut else error) from None
    except RecursionError:
        raise Unreadable("the reply holds JSON that is nested too deeply") from None
    return Reading(values, tuple(dict.fromkeys(forgiven)))


CUT = "the reply was cut at its limit of tokens (raise max_tokens)"
"""The repair that is recorded for a text which is read as far as it goes, and the beginning of other messages."""


def _found(
    format: Format, outputs: Mapping[str, Field], text: str, forgiven: list[str], cut: bool
) -> Mapping[str, Any]:
    """Return the outputs of a reply by name as they stand in it, not yet of their types: texts, or the values of JSON; a
    missing one is absent."""
    if format == "json":
        return _object(outputs, text.strip(), forgiven, cut)
    if format == "fields":
        found = sections.read(tuple(outputs), text, forgiven, cut)
        missing = [name for name, field in outputs.items() if name not in found and not _may_lack(field)]
        return _other_sections(outputs, text, found, forgiven, cut) if missing else found
    ((name, field),) = outputs.items()
    if _is_scanned(field.type):
        return {name: text}
    if without_none(field.type) not in _FREE:
        return {name: thinking.answer(text, forgiven, outputs)}
    spoken = thinking.prose(text, forgiven, outputs)
    if cut:
        if not spoken.strip():
            raise Unreadable("it ended before an answer began")
        forgiven.append(CUT)
    return {name: spoken}


def _values(
    format: Format, outputs: Mapping[str, Field], found: Mapping[str, Any], forgiven: list[str], cut: bool
) -> dict[str, Any]:
    """Return the outputs of their types, from those that were found; an optional one that is missing has its default or None.
    Raises Unreadable for a missing or wrong one."""
    values = {}
    for name, field in outputs.items():
        if name in found:
            within = format == "fields" and isinstance(found[name], str)
            value = _spoken(found[name], field.type, forgiven) if within else found[name]
            values[name] = _fitted(name, value, field.type, forgiven, cut and format == "text", format == "json")
            wrong = mismatch(values[name], field.type)
            if wrong:
                raise Unreadable(f"{name}: {wrong}")
        elif _may_lack(field):
            values[name] = field.default
        else:
            raise Unreadable(f"the reply has no output '{name}'")
    return values


def _spoken(text: str, kind: Type, forgiven: list[str]) -> str:
    """Return the text of a section without thinking in it; of one that may be any text, only thinking at its beginning is
    left out, and of one that holds JSON none, whose reader does it."""
    if _is_scanned(kind):
        return text
    if without_none(kind) not in _FREE:
        return thinking.answer(text, forgiven)
    found = thinking.marks(text)
    return thinking.prose(text, forgiven) if found and not text[: found[0].start()].strip() else text


def _unquoted(text: str, kind: Type, forgiven: list[str]) -> str:
    """Return a text that stood in JSON without thinking in it; of one that may be any text, only a block at its beginning
    that more text follows is left out, and of one of type `json` none."""
    if without_none(kind) == JSON or not thinking.marks(text):
        return text
    if without_none(kind) in _FREE:
        first = thinking.marks(text)[0]
        if text[: first.start()].strip() or thinking.ends(first) or not text[first.end() :].strip():
            return text
    return _spoken(text, kind, forgiven)


def _fitted(name: str, value: Any, kind: Type, forgiven: list[str], cut: bool, quoted: bool) -> Any:
    """Return a value of a reply as one of type `kind`, by the same rules at every depth, with a model's defaults added; what
    does not fit is left as it is, or raises Unreadable where a text says no value of the type.

    `quoted` says that a text stood in JSON as one, so that it needs no reading where it fits.
    """
    if isinstance(value, str):
        if quoted:
            value = _unquoted(value, kind, forgiven)
        if quoted and mismatch(value, kind) is None:
            return value
        value = _typed(name, value, kind, forgiven, cut)
    kind = without_none(kind)
    if kind == INT and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        forgiven.append("a whole number with decimals")
        return int(value)
    if isinstance(kind, ListOf) and isinstance(value, list):
        return [_fitted(name, item, kind.item, forgiven, cut, True) for item in value]
    if isinstance(kind, Object) and isinstance(value, dict):
        kinds = dict(kind.fields)
        if kind.model is not None:
            named = pydantic_models.aliases(kind.model)
            value = {key if named.get(key, key) in value else named[key]: item for key, item in value.items()}
        found = {
            key: _fitted(f"{name}.{key}", item, kinds[key], forgiven, cut, True) if key in kinds else item
            for key, item in value.items()
        }
        # A model adds its defaults, and writes dates and the like in one way.
        return found if kind.model is None else pydantic_models.validated(kind.model, found)[0]
    return value


def _may_lack(field: Field) -> bool:
    return field.has_default or isinstance(field.type, Optional)


def _other_sections(
    outputs: Mapping[str, Field], text: str, exact: Mapping[str, str], forgiven: list[str], cut: bool
) -> Mapping[str, Any]:
    """Return the outputs of a reply in which some sections of the right tags are missing (`exact` are those that were found):
    with sections of another spelling, else those of `exact`, else the fields of a JSON object or `name: value` lines."""
    names = tuple(outputs)
    spelt = sections.respelt(names, text)
    if spelt != text and (found := sections.read(names, spelt, forgiven, cut)):
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
    found = sections.lines(outputs, thinking.answer(text, forgiven, outputs), cut)
    if found:
        forgiven.append("lines in place of sections")
    return found


_FREE = (STR, IMAGE)
"""Types whose values are texts of any kind."""


def _is_scanned(kind: Type) -> bool:
    """Return whether a text is read as JSON for a value of the type: json, objects and lists. The reader of JSON passes over
    thinking by itself."""
    kind = without_none(kind)
    return kind == JSON or isinstance(kind, Object | ListOf)


def _typed(name: str, text: str, kind: Type, forgiven: list[str], cut: bool) -> Any:
    """Return the value of type `kind` that a text stands for: a text as it is, a text for an enum that names no value of it
    (which the caller refuses), None for an optional type. Raises Unreadable, naming the output `name`, where there is
    none."""
    if isinstance(kind, Optional):
        if _is_nothing(text.strip(), kind.inner):
            return None
        return _typed(name, text, kind.inner, forgiven, cut)
    if kind in _FREE:
        return text
    if isinstance(kind, Enum):
        return one_of(text, kind, forgiven, cut)
    stripped = text.strip()
    if kind == BOOL:
        return truth(name, stripped, forgiven, cut)
    if kind in (INT, FLOAT):
        return number(name, stripped, kind, forgiven, cut)
    opening = "{" if isinstance(kind, Object) else "[" if isinstance(kind, ListOf) else "[{"
    found = _json(name, stripped, opening, forgiven, cut, lambda value: _rank(value, kind))
    return _unwrapped(found, forgiven) if isinstance(kind, Object) else found


def _is_nothing(text: str, kind: Type) -> bool:
    """Return whether a text says that an optional value of type `kind` is absent: blank or `null`, and for types other than
    text also words such as `none`, unless an enum has them."""
    if not text or text == "null":
        return True
    known = isinstance(kind, Enum) and any(folded(value) == folded(text.strip(MARKS)) for value in kind.values)
    return kind not in _FREE and not known and text.strip(MARKS).lower() in ("null", "none", "nothing", "n/a")


def _rank(value: Any, kind: Type) -> int:
    """Return how well a value of JSON in a text answers for a type: for an object the number of its fields that are there,
    for a list 1 or 0 as it fits or not, for others 1."""
    if isinstance(kind, Object):
        wanted = {name for name, _ in kind.fields}
        if kind.model is not None:
            wanted |= pydantic_models.aliases(kind.model).keys()
        return len(wanted & value.keys()) if isinstance(value, dict) else 0
    if isinstance(kind, ListOf):
        return int(mismatch(value, kind) is None)
    return 1


def _object(outputs: Mapping[str, Field], text: str, forgiven: list[str], cut: bool) -> Mapping[str, Any]:
    """Return the fields of the JSON object in a reply, under the names of outputs where they are spelt otherwise, also of one
    within a list or another object. Raises Unreadable where there is none."""
    wanted = {folded(name) for name in outputs}

    def rank(value: Any) -> int:
        return len(wanted & {folded(key) for key in value}) if isinstance(value, dict) else 0

    fields = _unwrapped(_json("the reply", text, "{", forgiven, cut, rank), forgiven)
    if isinstance(fields, dict) and len(fields) == 1 and not rank(fields):
        ((name, inner),) = fields.items()
        if rank(inner) and name != "properties":  # in which a schema has them
            forgiven.append("an object around the reply's")
            fields = inner
    if not isinstance(fields, dict):
        raise Unreadable("the reply is not a JSON object")
    return sections.by_name(outputs, fields, forgiven)


def _unwrapped(value: Any, forgiven: list[str]) -> Any:
    """Return the object in a list that holds nothing else; other values as they are."""
    if not (isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)):
        return value
    forgiven.append("a list around a JSON object")
    return value[0]


def _json(name: str, text: str, opening: str, forgiven: list[str], cut: bool, rank: Callable[[Any], int]) -> Any:
    """Return the value of the JSON in a text: of the whole text, of a text within it, or of a part that begins with one of
    the brackets `opening`, chosen by `rank`. Raises Unreadable, naming the output `name`, where there is none."""
    try:
        value = loose_json.strict(text)
    except ValueError:
        pass
    else:
        if not isinstance(value, str) or value.lstrip()[:1] not in tuple(opening):
            return value
        forgiven.append("JSON within a text of JSON")
        text = value
    try:
        return loose_json.find(text, opening, forgiven, cut, rank)
    except LookupError:
        pass
    except ValueError as error:
        raise Unreadable(f"{name} holds JSON that cannot be read: {error}") from None
    try:
        return loose_json.strict(thinking.answer(text, forgiven))  # a number or the like behind thinking
    except ValueError:
        raise Unreadable(f"{name} holds no JSON") from None
