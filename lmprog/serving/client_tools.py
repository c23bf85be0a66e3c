"""The tools of a chat's client: which agent is offered them, and its turns that wait for their results.

An agent is offered them where it goes on from the conversation: it is the one agent that a step at the top of the program
gives the whole conversation as earlier turns, and its LM takes tools in its API.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lmprog.compiler.plan import Module, ModuleCall, Plan
from lmprog.compiler.prompts.messages import TURNS
from lmprog.compiler.tools.protocol import MAX_NAME, named
from lmprog.lms.lm import ToolOffer
from lmprog.runtime.client_tools import ClientCalls, ClientTools, Messages
from lmprog.serving.refusals import Refused

PREFIX = "call_"
MAX_CHARACTERS = 64_000_000
"""The most characters of waiting turns that a server keeps; the oldest go first."""


def client_tools(plan: Plan, conversation: str, body: Mapping[str, Any], waiting: WaitingTurns) -> ClientTools | None:
    """Return the tools of a chat request's `body` for the one agent that goes on from the input `conversation`, with no
    offers where the body has no tools or `tool_choice: none`; None where there is no such agent, or there are several,
    and the body has no tools.

    `waiting` puts back the agent's turns of earlier runs. Raises Refused for any tools where there is no such agent or
    several, for a tool of a wrong form or with a name that is taken, and for a `tool_choice` or `parallel_tool_calls`
    that an agent does not follow.
    """
    agents = dict(_agents(plan, conversation))
    given = body.get("tools") or []
    if len(agents) != 1:
        if given:
            found = f"{len(agents)} agents ({', '.join(agents)})" if agents else "no agent"
            raise _wrong(
                f"`tools` are not taken: the program calls the tools that it declares. For a client's tools, {plan.name} needs "
                f"one agent that goes on from the conversation, and has {found}: a module with `tools`, whose input of the "
                "type messages a step at the top gives the whole conversation, on an LM with `tool_protocol: native`"
            )
        return None
    ((step, module),) = agents.items()
    offers = _offers(given, named(plan.tools[tool] for tool in module.tools))
    choice = body.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise _wrong("`tool_choice` is auto or none: the agent decides which tools it calls", "tool_choice")
    if offers and body.get("parallel_tool_calls") is False:
        raise _wrong("`parallel_tool_calls` cannot be false: an agent may call several tools", "parallel_tool_calls")
    return ClientTools(step, () if choice == "none" else offers, waiting.restored)


def with_calls_answered(messages: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the messages in their order, those with tool calls with a `content` (null), which OpenAI's clients may
    leave out there. Raises Refused where a call has a wrong form, or no result in the messages of the role `tool` that
    follow its turn at once, and where a message of that role has no `tool_call_id`; a result of an unknown call
    passes."""
    found: list[Mapping[str, Any]] = []
    for position, message in enumerate(messages):
        calls = message.get("tool_calls")
        if message.get("role") == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise _wrong(f"turn {position}: a message of the role tool has the `tool_call_id` of its call", "messages")
        if calls is None:
            found.append(message)
            continue
        if message.get("role") != "assistant" or not isinstance(calls, list) or not all(map(_is_call, calls)):
            form = '{"id": ..., "type": "function", "function": {"name": ..., "arguments": "..."}}'
            raise _wrong(f"turn {position}: `tool_calls` of an assistant's turn is a list of {form}", "messages")
        answered = set()
        for other in messages[position + 1 :]:
            if other.get("role") != "tool":
                break
            answered.add(str(other.get("tool_call_id")))
        if left := [call["id"] for call in calls if call["id"] not in answered]:
            raise _wrong(
                f"turn {position}: no message of the role tool follows with the result of {left[0]}", "messages"
            )
        found.append({"content": None, **message})
    return found


class WaitingTurns:
    """The turns of agents that wait for results of a client's tools, by run, in memory: at most `limit` characters.

    The client is sent its own calls alone. Without the agent's turns before them, and the calls of the program's own tools
    beside them, the LM would make these calls again.
    """

    def __init__(self, limit: int = MAX_CHARACTERS) -> None:
        self._limit, self._size = limit, 0
        self._kept: dict[str, str] = {}

    def keep(self, run: str, made: ClientCalls) -> list[dict[str, Any]]:
        """Keep the agent's turns of the run with the id `run`, and drop the oldest runs beyond the limit, or this one
        too where it alone is beyond it; return the client's calls in OpenAI's form (`id`, `type`, `function`), in their
        order, each with an id that is made from the run's."""
        ids = [f"{PREFIX}{run}_{position}" for position in range(len(made.calls))]
        own = {id: call.id for id, call in zip(ids, made.calls, strict=True)}
        self._kept[run] = json.dumps([made.turns, own])
        self._size += len(self._kept[run])
        while self._size > self._limit:
            self._size -= len(self._kept.pop(next(iter(self._kept))))
        return [
            {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.written}}
            for id, call in zip(ids, made.calls, strict=True)
        ]

    def restored(self, messages: Messages) -> Messages:
        """Return an agent's messages with each assistant's turn that has the ids of the calls of a kept run replaced by
        all the agent's turns of that run, which stays kept, and the results behind it under the ids that the LM gave
        its calls; other messages, also those of runs that were dropped, stay as they are."""
        found: list[Mapping[str, Any]] = []
        known: dict[str, str] = {}
        for message in messages:
            ids = [call["id"] for call in message.get("tool_calls") or ()]
            kept = self._kept.get(ids[0].removeprefix(PREFIX).rpartition("_")[0]) if ids else None
            turns, own = json.loads(kept) if kept is not None else ([], {})
            if ids and ids == list(own):
                found += turns
                known |= own
            elif message.get("role") == "tool" and message["tool_call_id"] in known:
                found.append({**message, "tool_call_id": known[message["tool_call_id"]]})
            else:
                found.append(message)
        return found


def _agents(plan: Plan, conversation: str) -> Iterator[tuple[str, Module]]:
    """Yield the steps at the top whose agents go on from the conversation, each with its module."""
    for step in plan.steps:
        if step.foreach is not None or not isinstance(step.action, ModuleCall):
            continue
        module = plan.modules[step.action.module]
        if not module.tools or plan.lms[module.lm].tool_protocol != "native":
            continue
        for name, given in step.action.arguments.items():
            turns = module.inputs[name].type in TURNS and name not in module.layout.user.variables
            if turns and _is_input(given.tree, conversation):
                yield step.id, module


def _is_input(tree: ast.AST | None, name: str) -> bool:
    """Return whether an expression is an input of the program and nothing else."""
    match tree.body if isinstance(tree, ast.Expression) else tree:
        case ast.Attribute(value=ast.Name(id="inputs"), attr=attribute):
            return attribute == name
    return False


def _offers(given: Any, own: Mapping[str, Any]) -> tuple[ToolOffer, ...]:
    """Return the tools of a request (`given`) as the LM is offered them. Raises Refused for a wrong form, and for a name
    that is taken: twice among them, or by one of the agent's own tools (`own`, by their names for the LM)."""
    offers: dict[str, ToolOffer] = {}
    for tool in given if isinstance(given, list) else [given]:
        function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
        if not isinstance(function, Mapping):
            raise _wrong('`tools` is a list of {"type": "function", "function": {"name": ..., "parameters": {...}}}')
        name, parameters = function.get("name"), function.get("parameters") or {"type": "object", "properties": {}}
        about = function.get("description") or ""
        if not isinstance(name, str) or not re.fullmatch(f"[A-Za-z0-9_-]{{1,{MAX_NAME}}}", name):
            raise _wrong(
                f"the name of a tool is at most {MAX_NAME} of the characters A-Z a-z 0-9 _ -, and not {name!r}"
            )
        if not isinstance(parameters, Mapping) or not isinstance(about, str):
            raise _wrong(f"the tool {name}: `parameters` is a JSON schema (an object), and `description` a text")
        if name in own:
            raise _wrong(f"the program has a tool {name} of its own; give the client's another name")
        if name in offers:
            raise _wrong(f"the tool {name} is there twice; each has a name of its own")
        offers[name] = ToolOffer(name, about, parameters)
    return tuple(offers.values())


def _is_call(call: Any) -> bool:
    """Return whether a value is a tool call in OpenAI's form: with a text as `id`, and a function's `name` and `arguments`."""
    function = call.get("function") if isinstance(call, Mapping) and isinstance(call.get("id"), str) else None
    return isinstance(function, Mapping) and all(isinstance(function.get(key), str) for key in ("name", "arguments"))


def _wrong(said: str, place: str = "tools") -> Refused:
    return Refused("input", place, said)
