"""Digests of LM requests, and the name of the weights that answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lmprog.compiler.plan import AdapterReference
from lmprog.lms.lm import ToolOffer
from lmprog.state.digests import digest


def weights_of(model: str, adapter: AdapterReference | None) -> str:
    """Return the name of the weights that answer: the model's name, with `+` and the adapter's digest (its location
    where the spec has no digest) where there is an adapter (not None).
    """
    return f"{model}+{adapter.weights}" if adapter else model


def request_sha256(
    weights: str,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    seed: int | None,
    tools: Sequence[ToolOffer] = (),
) -> str:
    """Return the SHA-256 (hex) of all that a reply depends on (weights, messages, parameters, seed (None: none is
    sent), tools), except the server's address."""
    return digest([weights, list(messages), params, seed, [asdict(tool) for tool in tools]])
