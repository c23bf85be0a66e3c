"""Replies that can only be of the declared types: a grammar of what `formats.write` writes, as masks over the next token.

1. Type to grammar: `grammar` writes a Lark grammar, in which JSON parts are JSON schemas (`%json`).
2. Grammar to automaton: llguidance compiles it against the tokenizer, once for each format and type (`Grammars`).
3. State: each reply of a wave advances a copy of its own (`Constraint`).
4. Mask: before each token, the states give the tokens that may come next, V bits a reply in W = ceil(V / 32) words of 32; the
   others get a logit of minus infinity, (R, V). End tokens may come where the reply is complete.
5. Training: `allowed` replays a reply and returns the masks (T, W) of its T tokens.

The masks enter before the softmax, so that replies are sampled from the distribution over the tokens that may come next, and
log-probabilities are under it. The trainer normalizes over the same tokens: with the whole vocabulary its probabilities
would differ from the sampler's, and the gradient would teach a grammar that the mask enforces anyway.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
from numpy.typing import NDArray

from lmprog.compiler.replies.section_text import escaped
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, STR, Enum, Object, Optional, Type, json_schema
from lmprog.errors import LmprogError
from lmprog.extras import needed_by
from lmprog.lms.lm import Request

Key = tuple[str, Type]
"""A format and the type of its outputs."""
MAX_NUMBER = 10**15
"""The largest absolute value of a number, which every reader of JSON reads exactly."""
MAX_DEPTH = 6
"""The most levels of lists and objects within each other in a value of the type `json`: without a limit its grammar would have
no end.
"""
MAX_GRAMMARS = 64
"""Compiled grammars that are kept."""
_WHOLE = r"-?(0|[1-9][0-9]{0,14})"
_TEXT = r"""start: TEXT
TEXT: /(?s:.*)/ & ~/(?s:.*)<\/think>(?s:.*)/
"""
"""Any text but one whose beginning would be read as a model's thinking."""
_LINE = f" {json.dumps(chr(10))} "
"""The newline between two sections, as a literal of the grammar."""
_BOUNDS = {"minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
_JSON = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}


def grammar(format: str, outputs: Object) -> str:
    """Return the Lark grammar, in llguidance's dialect, of all replies that hold values of `outputs` in `format`:
    `json`, `text` (where `outputs` has a single field, else ValueError is raised), or `fields`, a section for each.
    Whether llguidance can compile it is seen by `Grammars.constraint`.
    """
    if format == "json":
        return f"start: {_json(outputs)}"
    if format == "text":
        ((_, kind),) = outputs.fields
        return _TEXT if _is_text(kind) else f"start: {_bare(kind)}"
    sections, rules = [], []
    for place, (name, kind) in enumerate(outputs.fields):
        close = f"</{name}>"
        sections.append(f"{_literal(f'<{name}>')} section_{place}")
        if _is_text(kind):
            # The text of a `suffix` rule ends at the first closing tag, where the reader ends it too.
            rules.append(f"section_{place}[suffix={_literal(close)}]: /(?s:.*)/")
        else:
            rules.append(f"section_{place}: ({_bare(kind, name)}) {_literal(close)}")
    return "\n".join([f"start: {_LINE.join(sections)}", *rules])


def _bare(kind: Type, section: str | None = None) -> str:
    """Return the grammar of a non-text value outside JSON, as `formats.as_text` writes it; within the tags of `section`,
    labels are written as they must be there (None: the value stands alone).
    """
    if isinstance(kind, Optional):
        return f"{_literal('null')} | {_bare(kind.inner, section)}"
    if isinstance(kind, Enum):
        return " | ".join(_literal(value if section is None else escaped(section, value)) for value in kind.values)
    if kind == INT:
        return f"/{_WHOLE}/"
    if kind == FLOAT:
        return rf"/{_WHOLE}(\.[0-9]{{1,15}})?/"
    if kind == BOOL:
        return '"true" | "false"'
    return _json(kind)


def _is_text(kind: Type) -> bool:
    return kind == STR or kind == Optional(STR)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(kind: Type) -> str:
    # The whitespace is that of `json.dumps`: the model chooses values, and not their layout.
    return "%json " + json.dumps({**_bounded(json_schema(kind)), **_ANYTHING, **_JSON}, ensure_ascii=False)


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its numbers bounded by MAX_NUMBER and its untyped values nested at most MAX_DEPTH deep."""
    if not schema.keys() - {"description", "default"}:  # the type `json`: any value
        return {"$ref": f"#/$defs/any{MAX_DEPTH}"}
    if "anyOf" in schema:
        return {"anyOf": [_bounded(part) for part in schema["anyOf"]]}
    # A pydantic model may have bounds of its own, and objects of any fields or values of no type.
    made = dict(schema)
    if schema.get("type") in ("integer", "number"):
        least = max(schema.get("minimum", -MAX_NUMBER), -MAX_NUMBER)
        most = min(schema.get("maximum", MAX_NUMBER), MAX_NUMBER)
        # Where its own bounds allow larger numbers alone, they stand: no number could meet them and ours.
        if (
            max(least, schema.get("exclusiveMinimum", least)) < min(most, schema.get("exclusiveMaximum", most))
            or least == most
        ):
            made |= {"minimum": least, "maximum": most}
    if schema.get("type") == "array":
        made["items"] = _bounded(schema.get("items", {}))
    if "properties" in schema:
        made["properties"] = {name: _bounded(part) for name, part in schema["properties"].items()}
    further = schema.get("additionalProperties", schema.get("type") == "object" and "properties" not in schema)
    if further is not False:
        made["additionalProperties"] = _bounded(further if isinstance(further, dict) else {})
    return made


def _anything(depth: int) -> dict[str, Any]:
    """Return the JSON schema of any JSON value with at most `depth` levels of nested lists and objects."""
    # One definition a depth that refers to the next: written out in place, the schema would grow as 2 ** depth.
    inner = {"$ref": f"#/$defs/any{depth - 1}"}
    nested = [{"type": "array", "items": inner}, {"type": "object", "additionalProperties": inner}] if depth else []
    plain = [{"type": "string"}, {"type": "number", **_BOUNDS}, {"type": "boolean"}, {"type": "null"}]
    return {"anyOf": [*plain, *nested]}


_ANYTHING = {"$defs": {f"any{depth}": _anything(depth) for depth in range(MAX_DEPTH + 1)}}


@dataclass
class Constraint:
    """The state of one reply in its grammar: which grammar (`key`), llguidance's matcher, and the ids of the tokens so
    far (`said`)."""

    key: Key
    matcher: Any
    said: tuple[int, ...] = field(default=())

    def advance(self, token: int) -> None:
        """Append a token, which the mask must allow, to the reply; after any other one the state is of no use."""
        self.said = (*self.said, token)
        self.matcher.consume_token(token)


class Grammars:
    """The compiled grammars of `decoding: constrained` for one tokenizer, by reply format and output types; made by
    LocalLM.

    A grammar is compiled when it is first needed, and the MAX_GRAMMARS (64) used last are kept.
    """

    def __init__(self, tokenizer: Any, size: int, end_ids: frozenset[int]) -> None:
        """Load the tokenizer into llguidance; `size` is the width of the logits, and `end_ids` are the tokens that end a
        reply.

        Raises MissingExtra where llguidance is not installed, LmprogError where it cannot read the tokenizer.
        """
        with needed_by("`decoding: constrained`"):
            import llguidance.hf
        try:
            self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=size, eos_token=sorted(end_ids))
        except ValueError as error:
            raise LmprogError(f"`decoding: constrained` cannot use the tokenizer of this model: {error}") from error
        self.size = size
        self._compiled: OrderedDict[Key, Any] = OrderedDict()

    def constraint(self, format: str, outputs: Object) -> Constraint:
        """Return the state of an empty reply that must hold `outputs` in `format`.

        Raises LmprogError for a type without a grammar.
        """
        from llguidance import LLMatcher

        key = (format, outputs)
        if key not in self._compiled:
            matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(grammar(format, outputs)))
            if matcher.is_error():
                raise LmprogError(f"`decoding: constrained` has no grammar for {outputs}: {matcher.get_error()}")
            self._compiled[key] = matcher
            while len(self._compiled) > MAX_GRAMMARS:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return Constraint(key, self._compiled[key].deep_copy())

    def allowed(self, format: str, outputs: Object, reply: Sequence[int]) -> NDArray[numpy.int32]:
        """Return for each of the T tokens of `reply`, which the grammar must allow, the packed mask of tokens that it
        allowed at its place: (T, W) words. `outputs` in `format` are what the reply holds. Raises LmprogError for a
        type without a grammar.
        """
        import llguidance.numpy

        constraint = self.constraint(format, outputs)
        bits = llguidance.numpy.allocate_token_bitmask(len(reply), self.size)
        for place, token in enumerate(reply):
            # The mask of a token depends on the tokens before it alone: filled in first, advanced after.
            llguidance.numpy.fill_next_token_bitmask(constraint.matcher, bits, place)
            constraint.advance(token)
        return bits


def allowed_bits(constraints: Sequence[Constraint | None], width: int) -> NDArray[numpy.int32]:
    """Return packed masks (R, W) of the tokens that may come next in each of R replies; where a reply has no constraint
    (None), all may.

    `width` is the number of tokens of the vocabulary; token v is bit v % 32 of word v // 32.
    """
    import llguidance.numpy

    bits = llguidance.numpy.allocate_token_bitmask(len(constraints), width)  # all allowed
    done: dict[tuple[Key, tuple[int, ...]], int] = {}
    for row, constraint in enumerate(constraints):
        if constraint is None:
            continue
        # Rows that have said the same in the same grammar may go on alike: most of a wave, at its first tokens.
        state = (constraint.key, constraint.said)
        if state in done:
            bits[row] = bits[done[state]]
        else:
            llguidance.numpy.fill_next_token_bitmask(constraint.matcher, bits, row)
            done[state] = row
    return bits


def unpacked(bits: NDArray[numpy.int32], width: int) -> NDArray[numpy.bool_]:
    """Unpack llguidance's packed masks (R, W) to booleans (R, width), True where a token is allowed.

    Token v is bit v % 32 of word v // 32. Seen as bytes of a little-endian processor, that is bit v % 8 of byte v // 8.
    """
    return numpy.unpackbits(bits.view(numpy.uint8), axis=1, bitorder="little")[:, :width].astype(bool)


def constraints_of(requests: Sequence[Request], grammars: Callable[[], Grammars]) -> list[Constraint | None]:
    """Return for each request a new Constraint; None for a request without `decoding: constrained`, or whose output type is
    no object.

    `grammars` returns the compiled grammars; it is called only if a request needs them. Raises LmprogError for a type
    without a grammar.
    """
    return [
        grammars().constraint(request.format, request.output_type)
        if request.decoding == "constrained" and isinstance(request.output_type, Object)
        else None
        for request in requests
    ]
