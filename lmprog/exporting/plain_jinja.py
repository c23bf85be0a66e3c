"""lmprog's templates for plain Jinja: an environment with no settings renders them as lmprog does.

lmprog trims blocks, gives templates values that are the same for every row, and reads fields before methods.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, meta, nodes

from lmprog.compiler.templates.compiled import ENVIRONMENT, parse
from lmprog.compiler.types.lattice import FLOAT, INT, STR, Enum, Type

_METHODS = frozenset(dir(dict))
_PLAIN = Environment(keep_trailing_newline=True)
_ENDS = {"variable_begin": "variable_end", "block_begin": "block_end"}
_MARKS = {"variable_begin": ("{{", "}}"), "block_begin": ("{%", "%}")}
_Token = tuple[str, str]


@dataclass(frozen=True)
class Hole:
    """A place of a text where the value of the input `name` stands as it is."""

    name: str


@dataclass(frozen=True)
class Text:
    """The text of a message as a plain Jinja template, which may stand inside another one.

    `pieces` are its parts where these are only texts and holes (places of an input's value); None where it has conditions,
    loops or filters.
    """

    template: str
    pieces: tuple[str | Hole, ...] | None

    @property
    def alone(self) -> str:
        """The template as a file of its own, with a further line break where Jinja removes one from the end."""
        return f"{self.template}\n" if self.template.endswith("\n") else self.template

    @property
    def fixed(self) -> str | None:
        """The text, if it is the same for every row; None where it is not, or may not be."""
        if self.pieces is None or any(isinstance(piece, Hole) for piece in self.pieces):
            return None
        return "".join(map(str, self.pieces))

    @property
    def names(self) -> frozenset[str]:
        """The inputs that the template reads."""
        return frozenset(meta.find_undeclared_variables(_PLAIN.parse(self.template)))

    @property
    def may_be_blank(self) -> bool:
        """True if the text may be blank for some inputs."""
        return self.pieces is None or not any(isinstance(piece, str) and piece.strip() for piece in self.pieces)

    @property
    def writes_json(self) -> bool:
        """True if the template has the filter `tojson`, which lmprog renders without escapes for HTML."""
        return self.pieces is None and any(
            node.name == "tojson" for node in _PLAIN.parse(self.template).find_all(nodes.Filter)
        )


def fixed_text(text: str) -> Text:
    """Return a text that is the same for every row as a Text, its marks of Jinja escaped."""
    return Text(_escaped(text), (text,) if text else ())


def template_text(template: str, fixed: Mapping[str, Any], inputs: Mapping[str, Type]) -> Text:
    """Return a template of lmprog as a Text; `fixed` are values by name that are the same for every row, `inputs` the types
    of the others.
    """
    code = plain(template, fixed)
    return Text(code, _pieces(code, inputs))


def plain(template: str, fixed: Mapping[str, Any]) -> str:
    """Return a template that Jinja with default settings renders as lmprog renders `template`, with the values of `fixed`
    put in.
    """
    own = {node.name for node in parse(template).find_all(nodes.Name) if node.ctx == "store"}
    folded = {name: value for name, value in fixed.items() if name not in own}
    pieces: list[tuple[bool, str]] = []
    for is_code, text in _parts(template, folded):
        if pieces and not is_code and not pieces[-1][0]:
            pieces[-1] = (False, pieces[-1][1] + text)
        else:
            pieces.append((is_code, text))
    code = "".join(text if is_code else _escaped(text) for is_code, text in pieces)
    read = sorted(meta.find_undeclared_variables(_PLAIN.parse(code)) & fixed.keys())
    return "".join(f"{{% set {name} = {literal(_needed(fixed[name], name, code))} %}}" for name in read) + code


def _parts(template: str, fixed: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """Yield the parts of a template in order: pairs of True and code in Jinja's usual notation, or False and text. A `{{ }}`
    that prints the same for every row, by the values of `fixed`, is text."""
    stream = iter((kind, text) for _, kind, text in ENVIRONMENT.lexer.tokeniter(template, None))
    for kind, text in stream:
        if kind == "data":
            yield False, text
        elif kind in _ENDS:
            inside = list(_until(stream, _ENDS[kind]))
            constant = _constant(inside, fixed) if kind == "variable_begin" else None
            begin, end = _MARKS[kind]
            yield (False, constant) if constant is not None else (True, begin + _code(inside) + end)


def _until(stream: Iterator[_Token], end: str) -> Iterator[_Token]:
    """Yield the tokens before the first of the kind `end`, which is taken from the stream too."""
    for kind, text in stream:
        if kind == end:
            return
        yield kind, text


def _constant(inside: list[_Token], fixed: Mapping[str, Any]) -> str | None:
    """Return the text that a `{{ }}` with these tokens prints for every row, where it is a text in quotes or reads a text or
    number of `fixed`; None for any other."""
    tokens = [token for token in inside if token[0] != "whitespace"]
    if [kind for kind, _ in tokens] == ["string"]:
        return tokens[0][1][1:-1].encode("ascii", "backslashreplace").decode("unicode-escape")
    value: Any = fixed
    if [kind for kind, _ in tokens] not in (["name"], ["name", "operator", "name"]):
        return None
    for kind, name in tokens:
        if kind == "name":
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        elif name != ".":
            return None
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _code(inside: list[_Token]) -> str:
    """Return the tokens of a tag as code, with fields that have the name of a method of dictionaries (`value.items`) read by
    key (`value["items"]`), since plain Jinja would find the method."""
    parts: list[str] = []
    for place, (kind, text) in enumerate(inside):
        following = next((token for token in inside[place + 1 :] if token[0] != "whitespace"), ("", ""))
        if kind == "name" and parts and parts[-1] == "." and text in _METHODS and following[1] != "(":
            parts[-1] = f"[{json.dumps(text)}]"
        else:
            parts.append(text)
    return "".join(parts)


def _escaped(text: str) -> str:
    """Return template code that prints the text unchanged, also where a tag stands directly behind it."""
    text = re.sub(r"\{(?=[{%#\r]|\Z)", lambda _: '{{ "{" }}', text)
    return text.replace("\r", '{{ "\\r" }}')


def _pieces(code: str, inputs: Mapping[str, Type]) -> tuple[str | Hole, ...] | None:
    """Return the parts of a plain template where these are only texts and inputs that print as they are; None where it has
    more."""
    found: list[str | Hole] = []
    for node in _outputs(_PLAIN.parse(code).body):
        if isinstance(node, nodes.TemplateData):
            found.append(node.data)
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, nodes.Name) and _prints_plainly(inputs.get(node.name)):
            found.append(Hole(node.name))
        else:
            return None
    return tuple(found)


def _outputs(body: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    for node in body:
        yield from node.nodes if isinstance(node, nodes.Output) else [node]


def _prints_plainly(kind: Type | None) -> bool:
    return kind in (STR, INT, FLOAT) or isinstance(kind, Enum)


def _needed(value: Any, name: str, code: str) -> Any:
    """Return the value of the fixed name `name`, of `vars` only the entries that the code names; the whole where it names
    none."""
    if name != "vars" or not isinstance(value, Mapping):
        return value
    return {key: part for key, part in value.items() if re.search(rf"\b{re.escape(key)}\b", code)} or value


def literal(value: Any) -> str:
    """Return a plain value in Jinja's notation, such as `none` for None; infinity and NaN have none there."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(str(key))}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
