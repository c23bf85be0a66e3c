"""Constrained replies: whatever is sampled reads back as the declared types, with nothing forgiven."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("llguidance", reason="needs the extra 'local'")

from lmprog.compiler.plan import Field  # noqa: E402
from lmprog.compiler.replies import formats  # noqa: E402
from lmprog.compiler.replies.reading import read  # noqa: E402
from lmprog.compiler.types.lattice import (  # noqa: E402
    BOOL,
    FLOAT,
    INT,
    JSON,
    MESSAGES,
    STR,
    Enum,
    ListOf,
    Object,
    Optional,
    mismatch,
)
from lmprog.compiler.types.python_reference import reference  # noqa: E402
from lmprog.errors import UsageError  # noqa: E402
from lmprog.lms.lm import Request  # noqa: E402
from lmprog.lms.local import LocalLM, shared  # noqa: E402
from lmprog.lms.local.constraint import MAX_NUMBER, Constraint, Grammars, _bounded, allowed_bits, unpacked  # noqa: E402

LABELS = Enum(("lost card", "lost", 'say "hi"', "Ünïcode", "a/b"))
SCALARS = st.sampled_from([STR, INT, FLOAT, BOOL, LABELS, JSON])
NAMES = st.sampled_from(["reasoning", "label", "n_2", "value"])


def objects(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(lambda fields: Object(tuple(fields.items())))


TYPES = st.recursive(
    SCALARS, lambda inner: st.one_of(inner.map(ListOf), inner.map(Optional), objects(inner)), max_leaves=4
).filter(lambda kind: not (isinstance(kind, Optional) and isinstance(kind.inner, Optional)))


@pytest.fixture(scope="module")
def lm() -> LocalLM:
    return shared("embedded/smollm2-135m")


@pytest.fixture(scope="module")
def grammars(lm: LocalLM) -> Grammars:
    return lm._grammars()


def allowed_next(grammars: Grammars, constraint: Constraint) -> torch.Tensor:
    """The tokens (V,) that may come next, True where one may."""
    return torch.from_numpy(unpacked(allowed_bits([constraint], grammars.size), grammars.size)[0])


def drawn(lm: LocalLM, grammars: Grammars, format: str, outputs: Object, seed: int, most: int = 150) -> str | None:
    """A reply of random tokens that the masks allow, short ones and the end preferred; None where it found no end."""
    constraint, draw, ids = grammars.constraint(format, outputs), random.Random(seed), []
    closing = {
        token for text in ('"', "}", "]", "</", ">", ", ", "1") for token in lm.weights.tokenizer(text).input_ids
    }
    for _ in range(most):
        open_ = allowed_next(grammars, constraint)
        allowed = open_.nonzero().flatten()  # no list: it may hold the whole vocabulary
        assert len(allowed), "a reply that can neither go on nor end"
        if any(open_[end] for end in lm.weights.end_ids) and (len(allowed) <= 2 or draw.random() < 0.5):
            return lm.text(ids)
        likely = [token for token in closing if open_[token]]
        token = draw.choice(likely) if likely and draw.random() < 0.6 else int(allowed[draw.randrange(len(allowed))])
        if token in lm.weights.end_ids:
            return lm.text(ids)
        ids.append(token)
        constraint.advance(token)
    return None


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_reply_of_the_masks_is_of_the_types(lm: LocalLM, grammars: Grammars, data) -> None:
    format = data.draw(st.sampled_from(["text", "fields", "json"]))
    kinds = data.draw(objects(TYPES))
    if format == "text":
        kinds = Object(kinds.fields[:1])
    reply = drawn(lm, grammars, format, kinds, data.draw(st.integers(0, 10**6)))
    if reply is None:
        return  # a long text that found no end: the token limit ends it, and it is unreadable
    outputs = {name: Field(kind) for name, kind in kinds.fields}
    reading = read(format, outputs, reply)
    assert not reading.forgiven
    assert all(mismatch(reading.values[name], kind) is None for name, kind in kinds.fields)


@pytest.mark.parametrize("format", ["text", "fields", "json"])
@pytest.mark.parametrize("kind", [LABELS, INT, FLOAT, BOOL, Optional(LABELS), ListOf(INT), Object((("a", STR),)), JSON])
def test_what_the_format_writes_is_allowed(lm: LocalLM, grammars: Grammars, format: str, kind) -> None:
    values = {
        str(LABELS): "lost card", "int": -12, "float": 0.5, "bool": False, str(Optional(LABELS)): None, "list[int]": [1, 20],
        "json": {"a": [1, None]},
    }  # fmt: skip
    outputs = Object((("value", kind),))
    written = formats.write(format, {"value": Field(kind)}, {"value": values.get(str(kind), {"a": "x"})})
    constraint = grammars.constraint(format, outputs)
    for token in [*lm.weights.tokenizer(written, add_special_tokens=False).input_ids, min(lm.weights.end_ids)]:
        assert allowed_next(grammars, constraint)[token], written
        constraint.advance(token)


@pytest.mark.parametrize(
    ("format", "fields", "written"),
    [
        ("text", {"a": STR}, "so</think> yes"),
        ("fields", {"a": STR, "b": INT}, "<a>one</a>two</a>\n<b>1</b>"),
        ("fields", {"a": Enum(("x</a>", "y"))}, "<a>x</a></a>"),
        ("json", {"a": JSON}, '{"a": 1e999}'),
        ("json", {"a": JSON}, '{"a": ' + "[" * 400 + "]" * 400 + "}"),
    ],
)
def test_what_would_be_forgiven_or_misread_is_not_allowed(lm, grammars, format: str, fields, written: str) -> None:
    constraint = grammars.constraint(format, Object(tuple(fields.items())))
    for token in lm.weights.tokenizer(written, add_special_tokens=False).input_ids:
        if not allowed_next(grammars, constraint)[token]:
            return
        constraint.advance(token)
    pytest.fail(f"{written!r} is allowed")


MODEL = """
from typing import Any, Literal
from pydantic import BaseModel, Field
class Order(BaseModel):
    count: int = Field(ge=0, le=9)
    parts: dict[str, int]
    more: dict[str, Any] = Field(description="anything")
    other: Any = Field(description="anything")
    unit: Literal[1, "a"]
"""


def test_a_pydantic_model_and_turns_have_grammars(lm, tmp_path) -> None:
    (tmp_path / "models_of_orders.py").write_text(MODEL)
    model = reference("./models_of_orders.py:Order", tmp_path)
    order = Object((("order", Object((("count", INT),), "Order", model)), ("turns", MESSAGES)))
    rest = ', "parts": {"a": 1}, "more": {"b": [2]}, "other": null, "unit": "a"}, "turns": [{"role": "user", "content": "x"}]}'
    for count, fits in (("9", True), ("10", False), ("-1", False)):
        ids = lm.reply_ids(f'{{"order": {{"count": {count}{rest}')
        assert lm.may_say("json", order, ids) == fits


def test_an_enum_that_holds_the_end_of_its_section_is_written_escaped(lm, grammars) -> None:
    constraint = grammars.constraint("fields", Object((("a", Enum(("x</a>", "y"))),)))
    written = formats.write("fields", {"a": Field(Enum(("x</a>", "y")))}, {"a": "x</a>"})
    for token in lm.weights.tokenizer(written, add_special_tokens=False).input_ids:
        assert allowed_next(grammars, constraint)[token]
        constraint.advance(token)


def ask(lm: LocalLM, **wanted):
    request = Request(
        [{"role": "user", "content": "My card is gone. Which is it?"}],
        output_type=Object((("label", LABELS),)),
        decoding="constrained",
        **wanted,
    )

    async def both():
        free = Request([{"role": "user", "content": "Count to ten."}], {"max_tokens": 5})
        return await asyncio.gather(lm.complete(request), lm.complete(free))

    return asyncio.run(both())


def test_log_probabilities_are_those_of_the_constrained_distribution(lm: LocalLM) -> None:
    params = {"temperature": 1.3, "max_tokens": 20}
    constrained, _ = ask(lm, params=params, seed=3)
    assert constrained.text in LABELS.values and constrained.finish_reason == "stop"
    prompt, reply = list(constrained.prompt_token_ids), list(constrained.token_ids)
    with torch.no_grad():
        logits = lm.weights.model(input_ids=torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1].float()
    state = lm._grammars().constraint("text", Object((("label", LABELS),)))
    for place, token in enumerate(reply):
        allowed = logits[place].masked_fill(~allowed_next(lm._grammars(), state), -torch.inf)
        expected = (allowed / 1.3).log_softmax(-1)[token].item()
        assert constrained.logprobs[place] == pytest.approx(expected, abs=0.15)  # bf16
        state.advance(token)
    assert reply[-1] in lm.weights.end_ids


def test_free_replies_of_the_same_wave_are_left_alone(lm: LocalLM) -> None:
    _, beside = ask(lm, params={"max_tokens": 20})
    alone = asyncio.run(lm.complete(Request([{"role": "user", "content": "Count to ten."}], {"max_tokens": 5})))
    assert (beside.text, len(beside.token_ids)) == (alone.text, len(alone.token_ids))


@pytest.mark.slow
def test_pieces_are_told_as_they_come(lm: LocalLM) -> None:
    pieces: list[str | None] = []
    request = Request([{"role": "user", "content": "Count to five."}], {"max_tokens": 24}, on_text=pieces.append)

    async def run():
        completion = await lm.complete(request)
        await asyncio.sleep(0)
        return completion

    completion = asyncio.run(run())
    assert len(pieces) > 3 and "".join(pieces) == completion.text


def test_an_api_cannot_promise_it_and_a_dry_run_need_not(program) -> None:
    made = program("""
        modules:
          sort: {lm: lm, inputs: {text: str}, outputs: {label: {enum: [a, b]}}, decoding: constrained}
    """)
    with pytest.raises(UsageError, match=r"'sort' has `decoding: constrained`.*use `format: json`"):
        made(text="x")
    assert made.faked()(text="x").outputs == {"label": "a"}


def test_what_may_be_said_is_known_of_a_reply_that_was_written_elsewhere(lm: LocalLM) -> None:
    label = Object((("label", Enum(("refund", "billing"))),))
    assert lm.may_say("text", label, lm.reply_ids("billing"))
    assert not lm.may_say("text", label, lm.reply_ids("Billing"))
    assert not lm.may_say("text", label, lm.reply_ids("bill"))  # its end may not come there
    assert lm.may_say("text", label, lm.reply_ids("bill", ended=False))


@pytest.mark.parametrize(
    ("own", "bounds"),
    [
        ({}, (-MAX_NUMBER, MAX_NUMBER)),
        ({"minimum": 3}, (3, MAX_NUMBER)),
        ({"maximum": 10**18}, (-MAX_NUMBER, MAX_NUMBER)),
        ({"minimum": 10**16}, (10**16, None)),
        ({"exclusiveMinimum": 10**16}, (None, None)),
        ({"minimum": 5, "maximum": 5}, (5, 5)),
    ],
)
def test_numbers_have_bounds_that_some_number_meets(own: dict[str, int], bounds: tuple[int | None, int | None]) -> None:
    made = _bounded({"type": "integer", **own})
    assert (made.get("minimum"), made.get("maximum")) == bounds
