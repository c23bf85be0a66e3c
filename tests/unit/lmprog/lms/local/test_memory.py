"""The memory of local models: counted once, by what holds it."""

from __future__ import annotations

import asyncio

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")

from lmprog.lms.lm import Request  # noqa: E402
from lmprog.lms.local import LocalLM, shared  # noqa: E402
from lmprog.lms.local.memory import MEGABYTE, memory_of  # noqa: E402


def test_weights_packed_copies_and_heads_are_counted_once() -> None:
    lm = LocalLM(shared("embedded/smollm2-135m").weights)
    assert memory_of([lm])["heads"] == 0.0
    messages = [{"role": "system", "content": "Say what the text is about, in one word. " * 4}]
    request = Request([*messages, {"role": "user", "content": "It purrs."}], {"max_tokens": 2}, constant=(1, 0))
    head = lm.prompt(request.messages, request.constant).head
    asyncio.run(lm.complete(request))
    config = lm.weights.base.config
    found, twice = memory_of([lm]), memory_of([lm, lm])
    each = config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 2
    size = lm.weights.base.dtype.itemsize
    assert found["heads"] == pytest.approx(head * each * size / MEGABYTE, abs=0.06)
    parameters = sum(part.numel() for part in lm.weights.base.parameters())
    assert found["weights"] >= parameters * size / MEGABYTE - 0.1
    assert {name: twice[name] for name in ("weights", "heads")} == {name: found[name] for name in ("weights", "heads")}
    if "peak" in found:  # the system says it
        assert found["peak"] >= found["now"] >= found["weights"] + found["packed"] + found["heads"]
