"""A program that DSPy has saved as JSON: instructions, field descriptions, demos and LM of each of its predictors.

The file has neither the names nor the types of fields, nor which of them are outputs: names are taken from descriptions,
prefixes and demos, types from demos.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmprog.compiler.types.lattice import STR, ListOf, Type
from lmprog.errors import UsageError
from lmprog.imports.dspy_signatures import Signature, SignatureField
from lmprog.imports.files import read_text, within_depth
from lmprog.imports.program import identifier
from lmprog.imports.shapes import type_of

_HOLE = re.compile(r"\$\{(\w+)\}")
_DEFAULT = re.compile(r"Given the fields (.+), produce the fields (.+)\.")
_MARKS = ("augmented", "rationale")
"""Entries of demos that are no fields."""
_OF_AGENTS = {"trajectory", "next_thought", "next_tool_name", "next_tool_args"}


@dataclass(frozen=True)
class Saved:
    """The saved state of one DSPy predictor: its instructions, its demos (values by field name, as DSPy wrote them), and the
    options of its LM by name (`lm`, None: none was saved).

    `fields` are the names of its input and output fields in order, each with its description (None: none).
    """

    instructions: str
    fields: Mapping[str, str | None]
    demos: Sequence[Mapping[str, Any]]
    lm: Mapping[str, Any] | None

    @property
    def is_agent(self) -> bool:
        """True if it is one of the two predictors inside an agent."""
        return bool(_OF_AGENTS & self.fields.keys())

    def signature(self, say: Callable[[str], None]) -> Signature:
        """Return the signature as far as the file has it; `say(sentence)` is called for each assumption, such as which fields
        are outputs. Where nothing says that, the last field is the only output; a type that no demo shows is `str`.
        """
        names = list(self.fields)
        first = self._first_output(names)
        if first is None:
            first = len(names) - 1
            say(f"which fields come out, which the file does not say: `{names[-1]}` is taken as the only one")
        fields = {name: SignatureField(self._type(name, say), about) for name, about in self.fields.items()}
        return Signature(
            {name: fields[name] for name in names[:first]},
            {name: fields[name] for name in names[first:]},
            self.instructions,
        )

    def _first_output(self, names: list[str]) -> int | None:
        """Return the index in `names` of the first output field, by DSPy's standard instructions, by the field `reasoning`, or
        since there are two fields alone; None where nothing says it.
        """
        written = _DEFAULT.match(self.instructions)
        if written is not None:
            made = re.findall(r"`(\w+)`", written[2])
            places = [place for place in range(1, len(names)) if names[place:] == made or names[place + 1 :] == made]
            if places:
                return places[0] if names[places[0]] in ("reasoning", made[0]) else places[-1]
        if "reasoning" in names[1:]:
            return names.index("reasoning")
        return 1 if len(names) == 2 else None

    def _type(self, name: str, say: Callable[[str], None]) -> Type:
        """Return the type of a field by its values in the demos, `str` where they have none; `say` is called with the
        assumption, but not for `reasoning`.
        """
        found = type_of([demo[name] for demo in self.demos if demo.get(name) is not None])
        kind = found.item if isinstance(found, ListOf) else STR
        if name != "reasoning":
            said = "as its demos have it" if isinstance(found, ListOf) else "as nothing says another"
            say(f"the type of `{name}`, which the file does not say: {kind}, {said}")
        return kind


def read_saved(path: Path) -> dict[str, Saved]:
    """Return the saved predictors of a JSON file by their paths in DSPy, without those that have fewer than two fields;
    never empty.

    Raises UsageError where the file cannot be read, is no JSON or nested too deeply, or holds no predictor with two
    fields.
    """
    text = read_text(path)
    try:
        value = within_depth(lambda: json.loads(text), str(path))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {' '.join(str(error).split())}") from None
    found = dict(_predictors(value, "")) if isinstance(value, dict) else {}
    if not found:
        raise UsageError(
            f"{path} holds no predictor of DSPy; write one with program.save('program.json') of DSPy 2.6 or newer"
        )
    return found


def _predictors(value: Mapping[str, Any], path: str) -> Iterator[tuple[str, Saved]]:
    """Yield the paths and states of the predictors in a mapping of the file, which stands at `path` (empty: the whole)."""
    if isinstance(value.get("signature"), dict):
        found = _saved(value)
        if len(found.fields) > 1:
            yield path, found
        return
    for name, part in value.items():
        if isinstance(part, dict) and name != "metadata":
            yield from _predictors(part, f"{path}.{name}" if path else name)


def _saved(value: Mapping[str, Any]) -> Saved:
    """Return the state of a predictor from its mapping in the file; parts of an unexpected form count as absent."""
    signature, demos = value["signature"], value.get("demos")
    rows = [demo for demo in demos if isinstance(demo, dict)] if isinstance(demos, list) else []
    listed = signature.get("fields")
    fields = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    keys = [key for row in rows for key in row]
    named: dict[str, str | None] = {}
    for one in fields:
        about = str(one.get("description") or "")
        hole = _HOLE.fullmatch(about)
        named[hole[1] if hole else _name(str(one.get("prefix") or ""), keys)] = None if hole or not about else about
    lm = value.get("lm")
    return Saved(str(signature.get("instructions") or ""), named, rows, lm if isinstance(lm, dict) else None)


def _name(prefix: str, keys: Sequence[str]) -> str:
    """Return the name of a field by the prefix that DSPy writes before its value: the first of `keys` (those of the demos)
    that has the same letters and digits, whatever their case, else the prefix made a name.
    """
    squashed = re.sub(r"\W|_", "", prefix).lower()
    known = [key for key in keys if re.sub(r"\W|_", "", key).lower() == squashed]
    return known[0] if known else identifier(prefix.strip().rstrip(":").lower())


def fields_of_demo(demo: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a saved demo by field name, without the entries that are no fields: `augmented`, `rationale` and
    those that begin with `dspy_`.
    """
    return {name: value for name, value in demo.items() if name not in _MARKS and not name.startswith("dspy_")}
