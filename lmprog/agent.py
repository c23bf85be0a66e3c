"""A module with tools: its LM calls them, turn by turn, until it replies.

A turn is one call of the LM and, where it asks for tools, their calls, all at the same time. What goes wrong with a tool is
told to the LM, which may try something else. On the last turn it is offered none and told to reply; a run that has no
reply that can be read is the program's own failure, as for any module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from lmprog.compiler import formats, tool_protocol
from lmprog.compiler.formats import as_text
from lmprog.compiler.plan import Module, Tool
from lmprog.compiler.types import Optional, json_schema, mismatch
from lmprog.lms.lm import Completion, ToolCall, ToolOffer
from lmprog.module_call import Asking, asked_again
from lmprog.run import Run, Site, StepFailed
from lmprog.tool_call import call_tool
from lmprog.tools import ToolFailed

Message = dict[str, Any]
NO_TURN = "the reply calls a tool where no further call can be made"


class Protocol_(Protocol):
    """How calls and their results stand in messages."""

    def calls(self, completion: Completion) -> Sequence[ToolCall]:
        """What the LM asks for; nothing where it replies."""

    def turn(self, completion: Completion, results: Sequence[tuple[ToolCall, str, bool]], last: str | None) -> list[Message]:
        """The LM's turn and the results (call, text, whether it failed), then `last`, what it is told beside them."""
