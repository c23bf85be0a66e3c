"""Reading of types in a spec: `list[str]?`, `{field: T}`, `{enum: [...]}`, the long form, and `{type:
package.module:Model}`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmprog.compiler.findings.finding import Report, nearest, suggestion
from lmprog.compiler.findings.other_words import BOUNDS
from lmprog.compiler.plan import Field
from lmprog.compiler.shape import IDENTIFIER, WRAPPED
from lmprog.compiler.types import shapes
from lmprog.compiler.types.lattice import PRIMITIVES, UNKNOWN, Enum, Object, Primitive, Type, mismatch
from lmprog.compiler.types.meant import meant
from lmprog.compiler.types.text import TypeTextError, read_type
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence

LONG_FORM = frozenset(shapes.LONG_FORM.keys) - {"enum"}
_OTHER_NAMES = {
    "string": "str",
    "text": "str",
    "integer": "int",
    "number": "float",
    "double": "float",
    "boolean": "bool",
    "dict": "json",
    "object": "json",
    "any": "json",
    "array": "list[str]",
    "list": "list[str]",
}


_BOUNDED = (
    "say it in about:; for a value that is refused outside of its bounds, make it a field of a pydantic model "
    "(type: ./types.py:Model)"
)
"""The fix for the bounds of a value, which no type of the language has."""
_CONTAINERS = {"list": "list[{}]", "array": "list[{}]", "optional": "{}?"}
"""Names of the only field of an object by which another type was probably meant, and how that is written."""


class TypeReader:
    """The reader of the types that a spec writes; mistakes become findings of `report`.

    `constant(node)` returns the value of an enum's expression over `vars` (None, where it has none), `model(text, node)` the
    type that the text `package.module:Model` names; both report what they cannot read.
    """

    def __init__(
        self,
        report: Report,
        constant: Callable[[Scalar], Any],
        model: Callable[[str, Scalar], Type],
    ) -> None:
        self.report, self._constant, self._model = report, constant, model

    def fields(self, node: Mapping | None, what: str) -> dict[str, Field]:
        """Return the fields of an `inputs:` or `outputs:` mapping by name, also those with mistakes; empty for None. `what`
        stands before each name in messages."""
        if node is None:
            return {}
        return {name: self.field(value, f"{what} `{name}`") for name, value in node.entries.items()}

    def field(self, node: Node, what: str) -> Field:
        """Return the field that a node writes in the short form (its type) or the long form (a mapping with `type` or
        `enum`); what cannot be read of it is left out with a finding. `what` names the field in messages."""
        if isinstance(node, Mapping):
            node = self._respelled(node, what)
        if not (isinstance(node, Mapping) and ("type" in node.entries or self._is_enum(node))):
            return Field(self.type(node, what))
        kind_node = node.entries.get("type")
        for key in node.entries:
            if key not in LONG_FORM and not (kind_node is None and key == "enum"):
                fix = _BOUNDED if key in BOUNDS else suggestion(key, LONG_FORM, "keys")
                self.report.add("LMP101", node.key_place(key), f"the long form of {what} has no key `{key}`", fix=fix)
        kind = self.type(kind_node, what) if kind_node is not None else self._enum(node, what)
        about, declassify = self._text(node, "about", what), node.get("declassify")
        private = node.value("private", False)
        if not isinstance(private, bool):
            self.report.add("LMP101", node.entries["private"].place, f"`private` of {what} must be true or false")
            private = True
        reason = None
        if declassify is not None:
            value = declassify.plain()
            reason = value if isinstance(value, str) else ""
        default = node.get("default")
        if default is not None:
            wrong = mismatch(default.plain(), kind)
            if wrong:
                message = f"the default of {what} is no {kind}: {wrong}"
                self.report.add("LMP203", default.place, message, fix=meant(default.plain(), kind))
        return Field(
            kind,
            about=about,
            private=private,
            default=default.plain() if default is not None else None,
            has_default=default is not None,
            declassify=reason,
        )

    def _respelled(self, node: Mapping, what: str) -> Mapping:
        """Return a mapping with misspelt keys of the long form reported and replaced by the meant keys, if it is the long
        form; else the mapping itself.

        It is the long form where it has `type`, or cannot be an object of types: `private` is a boolean, `default` a list,
        or `about` or `declassify` a text with a blank.
        """
        texts = [node.value(key) for key in ("about", "declassify")]
        long = isinstance(node.value("private"), bool) or isinstance(node.get("default"), Sequence)
        long = long or any(isinstance(text, str) and " " in text for text in texts)
        missing = [key for key in LONG_FORM if key not in node.entries]
        strange = [key for key in node.entries if key not in LONG_FORM and nearest(key, missing)]
        if not strange or not (long or "type" in node.entries):
            return node
        result = node.copy()
        for key in strange:
            meant = nearest(key, missing) or key
            message = f"the long form of {what} has no key `{key}`"
            self.report.add("LMP101", node.key_place(key), message, fix=f"did you mean `{meant}`?")
            result.entries[meant], result.keys[meant] = result.entries.pop(key), result.keys.pop(key)
        return result

    def _text(self, node: Mapping, key: str, what: str) -> str | None:
        value = node.value(key)
        if value is not None and not isinstance(value, str):
            self.report.add("LMP101", node.entries[key].place, f"`{key}` of {what} must be text")
            return None
        return value

    @staticmethod
    def _is_enum(node: Mapping) -> bool:
        value = node.get("enum")
        if isinstance(value, Sequence):
            return True
        return isinstance(value, Scalar) and isinstance(value.value, str) and bool(WRAPPED.match(value.value))

    def type(self, node: Node, what: str) -> Type:
        """Return the type that a node writes; UNKNOWN, with a finding, for a node, or for a field of an object, that is no
        type. `what` names the place in messages."""
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return self.written(node.value.strip(), node, what)
        if isinstance(node, Mapping):
            if self._is_enum(node):
                for key in node.entries.keys() - {"enum"} - LONG_FORM:
                    self.report.add("LMP101", node.key_place(key), f"an enum has no key `{key}`")
                self._no_part(node, what)
                return self._enum(node, what)
            if "type" in node.entries and node.entries.keys() <= LONG_FORM:
                self._no_part(node, what)
                return self.type(node.entries["type"], what)
            for name, value in node.entries.items():
                if isinstance(value, Sequence) or (isinstance(value, Scalar) and "${{" in value.text):
                    message = f"`{name}` of {what} has values where a type should be"
                    self.report.add("LMP101", node.key_place(name), message, fix="an enum is written {enum: [...]}")
                    return UNKNOWN
                if not IDENTIFIER.match(name):
                    self.report.add("LMP101", node.key_place(name), f"`{name}` cannot name a field of {what}")
            self._container(node, what)
            return Object(tuple((name, self.type(value, f"{what}.{name}")) for name, value in node.entries.items()))
        fix = "a list of T is written list[T]" if isinstance(node, Sequence) else None
        self.report.add("LMP101", node.place, f"{what} has no type that can be read", fix=fix)
        return UNKNOWN

    def _container(self, node: Mapping, what: str) -> None:
        """Warn of an object whose only field has the name of a container, with a text as its type: `{list: str}`."""
        name, inner = next(iter(node.entries.items()), ("", None))
        if (
            len(node.entries) == 1
            and name in _CONTAINERS
            and isinstance(inner, Scalar)
            and isinstance(inner.value, str)
        ):
            message = f"{what} is an object with one field, `{name}`"
            fix = f'write "{_CONTAINERS[name].format(inner.value)}", unless an object is meant'
            self.report.add("LMP101", node.key_place(name), message, severity="warning", fix=fix)

    def _no_part(self, node: Mapping, what: str) -> None:
        """Report the keys `private`, `default` and `declassify` in the long form of a type or a part, which only a whole input
        or output has."""
        for key in sorted(node.entries.keys() & {"private", "default", "declassify"}):
            message = f"`{key}` is said of a whole input or output, and cannot be said of {what}"
            self.report.add("LMP101", node.key_place(key), message, fix=f"write {key}: beside the type of the whole")

    def written(self, text: str, node: Scalar, what: str) -> Type:
        """Return the type that a text such as `list[str]?` writes, with UNKNOWN in place of a word that names no type, or of
        the whole where it cannot be parsed, each with a finding at `node`. `what` names the place in messages."""
        try:
            return read_type(text, lambda word: self._word(word, node, what))
        except TypeTextError as error:
            shown = text if len(text) <= 60 else text[:57] + "..."
            fix = suggestion(text, [*PRIMITIVES, "list[str]"], "types")
            self.report.add("LMP101", node.place, f"{what} has the unknown type `{shown}`: {error}", fix=fix)
            return UNKNOWN

    def _word(self, text: str, node: Scalar, what: str) -> Type:
        if text in PRIMITIVES:
            return Primitive(text)
        if ":" in text:
            return self._model(text, node)
        known = [*PRIMITIVES, "list[str]"]
        fix = f"write {_OTHER_NAMES[text]}" if text in _OTHER_NAMES else suggestion(text, known, "types")
        self.report.add("LMP101", node.place, f"{what} has the unknown type `{text}`", fix=fix)
        return UNKNOWN

    def _enum(self, node: Mapping, what: str) -> Type:
        written = node.entries["enum"]
        if isinstance(written, Scalar):
            values = self._constant(written)
            if values is None:
                return UNKNOWN
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                self.report.add("LMP203", written.place, f"the enum of {what} needs a list of strings")
                return UNKNOWN
        else:
            values = []
            for item in written.items if isinstance(written, Sequence) else []:
                if isinstance(item, Scalar) and isinstance(item.value, str):
                    values.append(item.value)
                else:
                    text = item.text if isinstance(item, Scalar) else "..."
                    self.report.add(
                        "LMP101",
                        item.place,
                        f"the values of an enum are strings, in {what}",
                        fix=f'write "{text}"',
                    )
        repeated = sorted({value for value in values if values.count(value) > 1}) if len(values) < 2000 else []
        if repeated:
            message = f"the enum of {what} has `{repeated[0]}` twice"
            self.report.add("LMP101", written.place, message, fix="remove one of them")
        if not values:
            self.report.add("LMP101", written.place, f"the enum of {what} has no values")
            return UNKNOWN
        return Enum(tuple(dict.fromkeys(values)))


def default_format(outputs: dict[str, Field]) -> str:
    """Return the reply format of a module that sets none: `text` for one output, else `fields`."""
    return "text" if len(outputs) == 1 else "fields"
