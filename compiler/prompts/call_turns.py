"""The tool calls in an agent's demos: their form in a spec, and their turns in its prompt, in the notation of its LM.

A demo of an agent may have `tool_calls`: its turns before the reply, each one call or a list of calls made together. A call is
`{tool, arguments, result}`, or `{tool, arguments, error}` for one that failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lmprog.compiler.plan import Tool
from lmprog.compiler.replies import formats
from lmprog.compiler.tools import protocol
from lmprog.compiler.types.lattice import JSON

CALLS = "tool_calls"
"""The key of a demo that holds its tool calls."""
Message = dict[str, Any]


def turns_of(demo: Mapping[str, Any]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the tool calls of each turn of a demo (under its key `tool_calls`), in order, as a list of mappings with
    `tool`, `arguments` and either `result` or `error`; nothing for a demo without calls."""
    for turn in demo.get(CALLS) or ():
        yield [turn] if isinstance(turn, Mapping) else list(turn)


class CallTurns:
    """The notation of the tool calls of demos as messages: with `native` in the fields of the LM's API, else as text.

    `tools` are those of the agent; a call of another tool is written with its id as name.
    """

    def __init__(self, tools: Iterable[Tool] = (), native: bool = False) -> None:
        self._tools = {tool.id: (name, tool) for name, tool in protocol.named(tools).items()}
        self._native = native

    def messages(self, demo: Mapping[str, Any], number: int) -> list[Message]:
        """Return the messages with the tool calls and results of a demo, which stand between its inputs and its reply;
        empty for a demo without calls. `number`, its place among the demos, makes the ids of the calls unique.
        """
        found: list[Message] = []
        for position, calls in enumerate(turns_of(demo)):
            names = [self._tools[call["tool"]][0] if call["tool"] in self._tools else call["tool"] for call in calls]
            answers = [self._answer(call) for call in calls]
            if self._native:
                ids = [f"demo{number}_{position}_{index}" for index in range(len(calls))]
                found.append(_asking(ids, names, calls))
                found += protocol.native_results(
                    (id, text, failed) for id, (text, failed) in zip(ids, answers, strict=True)
                )
            else:
                lines = (_in_words(name, call) for name, call in zip(names, calls, strict=True))
                found.append({"role": "assistant", "content": "\n".join(lines)})
                shown = ((name, text, failed) for name, (text, failed) in zip(names, answers, strict=True))
                found.append({"role": "user", "content": protocol.shown(shown)})
        return found

    def _answer(self, call: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the text that an LM is sent for a call, its result or error, and True where the call failed."""
        if call.get("error") is not None:
            return str(call["error"]), True
        kind = self._tools[call["tool"]][1].type if call["tool"] in self._tools else JSON
        return formats.as_text(call.get("result"), kind), False


def _asking(ids: Sequence[str], names: Sequence[str], calls: Sequence[Mapping[str, Any]]) -> Message:
    made = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": formats.as_text(_arguments(call), JSON)}}
        for id, name, call in zip(ids, names, calls, strict=True)
    ]
    return {"role": "assistant", "content": None, "tool_calls": made}


def _in_words(name: str, call: Mapping[str, Any]) -> str:
    written = json.dumps({"tool": name, "arguments": _arguments(call)}, ensure_ascii=False)
    return f"<call>{written}</call>"


def _arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    return dict(call.get("arguments") or {})
