"""The values in a prompt flow: inputs, outputs of nodes, and texts that refer to them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, STR, Type, mismatch
from lmprog.imports.program import Note, identifier, wrapped
from lmprog.imports.values import fitted

_REFERENCE = re.compile(r"^\$\{\s*([^.}\s\[]+)\s*((?:\.[^.}\s\[]+|\[[^\]}]*\])*)\s*\}$")
_KINDS: dict[str, Type] = {"str": STR, "int": INT, "float": FLOAT, "bool": BOOL}
_INSTEAD = {"str": "''", "int": "0", "float": "0.0", "bool": "false", "list[json]": "[]"}
"""The value in place of the output of a skipped node, by type."""


class FlowValues:
    """The inputs and node outputs of a prompt flow, by which references to them become expressions.

    `inputs` are the program's inputs by name, as mappings with `type`, and where known `about` and `default`. `missing` are
    the ids of nodes without a step: where the output of one is read, it is added to `inputs`, and a note to `notes`.
    `types` has the type of each node's output (None: unknown), `skippable` the nodes that may be skipped, and `texts` those
    whose step computes a text.
    """

    def __init__(
        self,
        inputs: dict[str, dict[str, Any]],
        types: Mapping[str, str | None],
        missing: Iterable[str],
        skippable: Iterable[str],
        texts: Iterable[str] = (),
    ) -> None:
        self.texts = frozenset(texts)
        self.inputs, self.types, self.missing, self.skippable = inputs, types, frozenset(missing), frozenset(skippable)
        self.notes: list[Note] = []
        self._own = frozenset(inputs)

    def reference(self, value: Any) -> str | None:
        """Return the expression, without `${{ }}`, for a reference such as `${inputs.a}` or `${node.output.b}`; None
        for any other value, such as a text with more around it.

        A reference to an input or node that does not exist is converted all the same, and `check` says what is wrong
        with it.
        """
        found = _REFERENCE.match(value) if isinstance(value, str) else None
        if found is None:
            return None
        root, rest = found.groups()
        if root in ("inputs", "flow"):
            name, *fields = rest.removeprefix(".").split(".")
            return ".".join(("inputs", identifier(name), *fields)) if name else None
        id = identifier(root)
        if id in self.texts and rest.startswith(".output"):
            rest = f".value{rest.removeprefix('.output')}"
        return f"steps.{id}{rest}"

    def node(self, reference: str | None) -> str | None:
        """Return the id of the node, with or without a step, whose output an expression reads; None where it reads
        none, and for None, no expression.
        """
        found = re.match(r"steps\.(\w+)", reference or "")
        return found[1] if found is not None else None

    def kind(self, reference: str) -> str | None:
        """Return the type of the value of an expression such as `inputs.a` or `steps.node.output`, as the language writes it;
        None where it is a part of a value, or unknown.
        """
        found = re.fullmatch(r"inputs\.(\w+)|steps\.(\w+)\.(?:output|value)", reference)
        if found is None:
            return None
        return str(self.inputs[found[1]]["type"]) if found[1] in self.inputs else self.types.get(found[2] or "")

    def read(self, reference: str, reader: str, kind: str | None = None) -> str:
        """Return the expression by which a step reads `reference`, itself an expression: an input that is added to the
        program where its node has no step; one with a default, and a note, where its node may be skipped and its type is a
        text, number, bool or list; else unchanged.

        `reader` is the node that reads it, for the notes, and `kind` the type of an input that is added (None, and for a
        part of a value: `json`).
        """
        node = self.node(reference)
        if node in self.missing:
            part = reference.removeprefix(f"steps.{node}.output")
            return self._input(str(node), reader, None if part else kind) + part
        if node in self.skippable:
            instead = _INSTEAD.get(self.kind(reference) or "")
            if instead is not None:
                self._say(
                    "steps",
                    f"None, which the flow gives for the output of `{node}` where that node is skipped: `{reader}` gets "
                    f"{instead} (and a node that reads skipped nodes alone is skipped itself there)",
                )
                return f"default({reference}, {instead})"
        return reference

    def argument(self, value: Any, reader: str, kind: str | None = None) -> Any:
        """Return the argument of a step, as the spec writes it, for a value of a flow that the node `reader` passes: an
        expression for a reference (as `read` makes it), else the value. A literal such as "120" is converted where that
        gives the wanted type `kind` (None: unknown).
        """
        reference = self.reference(value)
        if reference is not None:
            return wrapped(self.read(reference, reader, kind))
        wanted = _KINDS.get(kind or "")
        return value if wanted is None or mismatch(value, wanted) is None else fitted(value, wanted)

    def condition(self, activate: Mapping[str, Any], reader: str) -> str | None:
        """Return the `when` of the step for the node `reader`, without `${{ }}`: an equality of reference and value,
        from the node's `activate` (a mapping with `when`, the reference, and `is`, the value; null where it is
        missing). None where `when` is no reference.
        """
        reference = self.reference(activate.get("when"))
        if reference is None:
            return None
        wanted = activate.get("is")
        kind = _KINDS.get(self.kind(reference) or "")
        wanted = wanted if kind is None else fitted(wanted, kind)
        return f"{self.read(reference, reader)} == {json.dumps(wanted, ensure_ascii=False, default=str)}"

    def _input(self, node: str, reader: str, kind: str | None) -> str:
        """Return the expression of the input that stands for the output of `node`, which has no step; the input, of the type
        `kind` (None: `json`), is added where it is new, with a note for each `reader`.
        """
        name = f"{node}_output" if node in self._own else node
        if name not in self.inputs:
            self.inputs[name] = {"type": kind or "json"}
        text = (
            f"the output of the node `{node}`, which `{reader}` reads: it is the input `{name}` until you write a step"
        )
        self._say("inputs", text)
        return f"inputs.{name}"

    def _say(self, section: str, text: str) -> None:
        """Add a note to a section of the program, unless it has the same one already."""
        note = Note(section, text)
        if note not in self.notes:
            self.notes.append(note)
