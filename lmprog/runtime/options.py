"""The options of running rows, beyond the program's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmprog.lms.lm import Completion, Request
from lmprog.runtime.client_tools import ClientTools
from lmprog.runtime.events import CallEnded, RequestMade, TextPiece


@dataclass(frozen=True)
class RunOptions:
    """The options of one run that the program does not set.

    `seed`, `rollout` (the number of the sample of a row) and the row's number decide the random draws. `params`
    override the parameters of all modules, and `module_params`, by module id, those and `params` for one module; `tags`
    stand in the run's traces. Without `retry` an unreadable reply fails at once. `on_text`, `on_record` and
    `on_request` are called for each piece of a reply (perhaps from another thread), each ended call, and each request
    before it is sent; `before_write` with the number of the row or the id of the request before each call of a tool
    that writes. `replay` may answer a request in place of the LM (None: it does not). `client` are the tools of a
    server's client (None: it has none).
    """

    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that override the `params` of all modules."""
    module_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Parameters that override `params`, by module of the program; modules of a sub-program are not affected."""
    retry: bool = True
    """False: a reply that cannot be read fails at once, as in rollouts for training."""
    rollout: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the run in traces."""
    on_text: Callable[[TextPiece], None] | None = None
    """Callback for each piece of a reply, where the LM can stream; perhaps from another thread."""
    on_record: Callable[[CallEnded], None] | None = None
    """Callback for each call of an LM or tool when it has ended."""
    on_request: Callable[[RequestMade], None] | None = None
    """Callback for each request to an LM before it is sent."""
    before_write: Callable[[int | str], None] | None = None
    """Called with the run's `example` before each call of a tool that writes; where it raises, the tool is not called."""
    replay: Callable[[Request], Completion | None] | None = None
    """Consulted before every LM call; returns None to send the request. Not used for judges."""
    client: ClientTools | None = None
    """Tools that the client of a server offers to one agent of the program, and calls itself."""


AS_IT_IS = RunOptions()
