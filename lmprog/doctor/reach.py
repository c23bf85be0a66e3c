"""Questions to the models of a program that cost nothing: whether their servers answer, take the key, and have the model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lmprog.boundary.bodies import TooLong, within
from lmprog.boundary.wire import loads
from lmprog.compiler.plan import LM, Fleet
from lmprog.compiler.routes import is_direct
from lmprog.doctor.line import Line
from lmprog.errors import LmprogError
from lmprog.lms.api.access import Access
from lmprog.lms.api.addresses import listed
from lmprog.lms.api.failures import TryFailed
from lmprog.lms.api.server import Server

TIMEOUT = 5.0
"""Seconds that a server has for its answer."""
MOST_BYTES = 10_000_000
OLLAMA = "http://localhost:11434"


async def reached(lms: Iterable[LM]) -> list[Line]:
    """Request from the servers of each LM behind an API which models they have, all at the same time; return a line for
    each server of each LM, in their order, also where it does not answer. An LM that cannot be asked without cost gets a
    line that says so, one of this process none.
    """
    asked = [_asked(lm, address) for lm in lms if not lm.backend.local for address in _servers(lm)]
    return list(await asyncio.gather(*asked))


def _servers(lm: LM) -> Sequence[str | None]:
    """Return the addresses of an LM's servers; one None where it has no list of them, or one that cannot be read."""
    try:
        return listed(lm) if isinstance(lm.api_base, Fleet) else (None,)
    except LmprogError:
        return (None,)


async def _asked(lm: LM, address: str | None) -> Line:
    name = f"{lm.id}: {lm.model}"
    try:
        access = Access.of(lm, address)
    except LmprogError:
        access = None
    if access is None or (isinstance(lm.api_base, Fleet) and address is None):
        return Line("Reach", name, "note", "not asked: what it needs is not set")
    if is_direct(lm):
        path, field = "/models", "data"
    elif lm.model.startswith(("ollama/", "ollama_chat/")):
        access = replace(access, base=access.base or OLLAMA)
        path, field = "/api/tags", "models"
    else:
        return Line("Reach", name, "note", "not asked: lmprog knows no question there that costs nothing")
    fix = "start the server, or correct its address or key"
    asked = f"GET {access.hide(access.base or '')}{path}"
    try:
        async with asyncio.timeout(TIMEOUT), Server(access).get(path) as response:
            body = b"".join([part async for part in within(response.content.iter_any(), MOST_BYTES)])
        there = [str(model.get("id") or model.get("name")) for model in loads(body)[field]]
    except TryFailed as failed:
        return Line("Reach", name, "problem", f"{asked}: {access.hide(failed.words)}", failed.fix or fix)
    except TimeoutError:
        return Line("Reach", name, "problem", f"{asked}: no answer within {TIMEOUT:g} seconds", fix)
    except OSError as error:
        return Line("Reach", name, "problem", f"{asked}: {access.hide(str(error))}", fix)
    except (TooLong, ValueError, LookupError, TypeError, AttributeError):
        return Line("Reach", name, "note", f"{asked}: it answers, and not with a list of models")
    wanted = lm.model.partition("/")[2]
    if wanted in there or f"{wanted}:latest" in there:
        return Line("Reach", name, "ok", f"{asked}: it answers, and has {wanted}")
    some = ", ".join(sorted(there)[:8]) + (", ..." if len(there) > 8 else "")
    return Line("Reach", name, "problem", f"{asked}: it answers, and has no {wanted}", f"it has: {some or 'no model'}")
