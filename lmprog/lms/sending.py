"""A request in the form in which its LM is given it, for showing: nothing is sent, and no client is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lmprog.compiler.backends import API, VLLM_PREFIX
from lmprog.compiler.plan import LM
from lmprog.compiler.routes import is_direct
from lmprog.compiler.types.lattice import json_schema
from lmprog.lms.api.body import TOKEN_IDS, marked, marks_caches, parameters
from lmprog.lms.lm import Request


def as_sent(declared: LM, request: Request) -> dict[str, Any]:
    """Return the fields of a request as they are first sent to the API of the LM `declared`, without address, key and
    headers: `model`, `messages`, and the parameters of the API such as `max_tokens`, `temperature`, `seed` and
    `response_format`. Images that are files stay paths: none is read.

    Where the API refuses a field that lmprog adds by itself, the request is sent again without it. Through litellm
    `seed` and `response_format` are only sent to models that take them; `seed` is absent for a provider that takes none.
    For an LM that no API serves it is what its engine gets: `model`, `messages`, `seed`, `schema` where the reply is
    constrained, and the parameters.
    """
    if declared.backend.make != API:
        kind = request.output_type
        held = {"schema": json_schema(kind)} if kind is not None and request.decoding == "constrained" else {}
        messages = list(request.messages)
        return {"model": declared.model, "messages": messages, "seed": request.seed, **held, **request.params}
    made = parameters(request, structured=request.format == "json", seeded=declared.backend.seeded)
    made.pop("timeout", None)  # how long a reply is waited for, which is not sent
    if not is_direct(declared):
        messages = (
            marked(request.messages, request.constant) if marks_caches(declared.model) else list(request.messages)
        )
        return {"model": declared.model, "messages": messages, **made}
    more = TOKEN_IDS if declared.model.startswith(VLLM_PREFIX) else {}
    model = declared.model.partition("/")[2]
    extra = made.pop("extra_body", {})
    return {"model": model, "messages": list(request.messages), **more, **made, **extra}


def is_marked(messages: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a message holds the mark up to which the provider should cache (`marked` in `lmprog/lms/api/body.py`)."""
    contents = (message.get("content") for message in messages)
    return any("cache_control" in part for parts in contents if isinstance(parts, list) for part in parts)
