"""Tools of the client of a server: an agent's LM is offered them, and the client makes their calls.

A run in which the LM calls one ends there, without outputs and without a failure. The client makes the calls, and the next run
goes on from the conversation with their results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.errors import Handled
from lmprog.lms.lm import ToolCall, ToolOffer

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ClientTools:
    """The tools of a server's client for one run: the path of the agent's step, which is one of the outermost program
    (`step`), and the tools that its LM is offered beside the agent's own (`offers`).

    `restored` takes the agent's messages and returns them with the turns of earlier runs put back, of which the client
    sends only a part.
    """

    step: str
    offers: tuple[ToolOffer, ...]
    restored: Callable[[Messages], Messages]

    def takes(self, tool: str) -> bool:
        """Return whether a tool of this name is the client's."""
        return any(offer.name == tool for offer in self.offers)


@dataclass(frozen=True)
class ClientCalls:
    """The calls of a client's tools with which a run has ended, and the agent's turns in the run (messages), these
    calls included.

    The turns have the results of the program's own tools, and none of the client's.
    """

    calls: tuple[ToolCall, ...]
    turns: tuple[Mapping[str, Any], ...]


class ClientCalled(Handled):
    """The exception that ends a run with calls of a client's tools. It is no failure: nothing retries or catches it
    before the end of the run. `made` has the calls."""

    def __init__(self, made: ClientCalls) -> None:
        super().__init__("the LM calls tools of the client")
        self.made = made
