"""Seeds of all random draws: each is derived from the place of the draw, never from the clock or the order of events."""

from __future__ import annotations

import hashlib


def derive(*place: object) -> int:
    """Return a seed in [0, 2**63) that depends on the values of `place` alone, such as (run, step, example, rollout, path).

    Values that are written equally in Python (by `repr`) give equal seeds, in any process; 1 and 1.0 give different ones.
    """
    digest = hashlib.blake2b("\x1f".join(map(repr, place)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
