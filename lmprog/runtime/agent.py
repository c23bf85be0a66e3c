"""A module with tools: its LM calls them, turn by turn, until it replies.

A turn is one call of the LM and, where it asks for tools, their calls, all at the same time. What goes wrong with a tool is
sent to the LM, which may try something else; only an MCP server that cannot be reached fails the run. On the last turn no tool
is offered and a message asks for the reply; a run without a reply that can be read is the program's own failure, as for any
module. Where a server's client offers tools too, a turn that calls one ends the run, after the calls of the program's own tools
in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lmprog.compiler.plan import Module, Tool
from lmprog.compiler.replies import formats, tool_calls
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.tools import protocol as tool_protocol
from lmprog.compiler.types.lattice import JSON, json_schema
from lmprog.failure import StepFailed
from lmprog.lms.lm import Completion, ToolCall, ToolOffer
from lmprog.runtime.client_tools import ClientCalled, ClientCalls
from lmprog.runtime.module_request import ModuleRequest, repair_messages
from lmprog.runtime.replies import is_cut, read_beside, with_start
from lmprog.runtime.run import Run, Site
from lmprog.runtime.tool_call import call_tool
from lmprog.tools.arguments import wrong_arguments
from lmprog.tools.tool import ToolFailed, ToolUnreachable
from lmprog.traces.record import ToolInvocation

Message = dict[str, Any]
ANSWER_NOW = "No further call can be made. Reply now, as asked at the start."
"""The message to an agent's LM before its last turn, in which no tool is offered."""


@dataclass(frozen=True)
class RequestedCall:
    """A tool call that an LM's reply asks for: the id by which the result refers to it (empty for calls written as text), the
    tool's name as the LM writes it, and the arguments by name.

    `problem` says why the call cannot be made (its arguments are no JSON, say); None where it can.
    """

    id: str
    tool: str
    arguments: Mapping[str, Any]
    problem: str | None = None


@dataclass(frozen=True)
class ToolResult:
    """The text sent back to an LM for one of its tool calls: the tool's result, or with `failed` an error message."""

    text: str
    failed: bool


class ToolProtocol(Protocol):
    """The interface of the two notations of tool calls: in fields of the LM's API (NativeToolCalls), and as text in its
    messages (TextToolCalls).
    """

    def offers(self) -> dict[str, Any]:
        """Return the fields to add to a Request (`tools`) so that it offers the agent's tools; empty where the prompt
        describes them as text."""

    def calls(self, completion: Completion, forgiven: list[str]) -> tuple[Message, list[RequestedCall]]:
        """Return the LM's reply as a message of the conversation, and the tool calls in it: none where it is a final reply.

        Repairs of badly written calls are appended to `forgiven`. Calls written as text raise Unreadable where there are too
        many, or where the thinking before them does not end.
        """

    def answered(self, calls: Sequence[tuple[RequestedCall, ToolResult]], reminder: str | None) -> list[Message]:
        """Return the messages to send to the LM next: the result of each call, and last the text `reminder`, such as that
        the next turn is the last (None: no reminder)."""


async def run_agent(run: Run, module: Module, inputs: dict[str, Any], site: Site) -> Mapping[str, Any]:
    """Run a module that has tools, turn by turn, until its LM gives a final reply; return the module's outputs by name.

    `inputs` are the module's, by name, and `site` is the position of the calling step. On the last of the module's
    `max_turns` no tool is offered, and before it a message asks for the reply (`ANSWER_NOW`). An unreadable reply is
    asked for again as often as the module's `retry` allows, in each turn. All calls are recorded in `run`. Raises
    StepFailed where the prompt cannot be rendered, the LM gives no reply, the last try cannot be read, or an MCP server
    cannot be reached, ClientCalled where the LM calls tools of a server's client, and unchanged what concerns more than
    this run, such as BudgetExceeded.
    """
    request = ModuleRequest(run, module, inputs, site)
    prompt = request.prompt()
    tools = tool_protocol.named(run.plan.tools[tool] for tool in module.tools)
    client = run.client_of(site)
    native = request.declared.tool_protocol == "native"
    way: ToolProtocol = NativeToolCalls(tools, client.offers if client else ()) if native else TextToolCalls()
    messages: list[Mapping[str, Any]] = list(client.restored(prompt.messages) if client else prompt.messages)
    before = len(messages)
    tries = 1 + (module.retry if run.options.retry else 0)
    for turn in range(module.max_turns):
        last = turn + 1 == module.max_turns
        # Before the last turn the reply may be a call, so that nothing may hold it to the type of the outputs.
        free = {} if last or run.resources.dry_run else {"output_type": None, "decoding": "free"}
        more = free if last else {**free, **way.offers()}
        for again in range(tries):
            attempt = site.attempt * tries + again
            completion, fields = await request.ask(tuple(messages), prompt.constant, attempt, (turn,), **more)
            forgiven: list[str] = []
            try:
                is_cut(completion)
                said, calls = way.calls(completion, forgiven)
                if calls and not last:
                    request.record(fields, within=(turn, 0), forgiven=tuple(forgiven))
                    break
                if calls:
                    raise Unreadable("it calls a tool, and no further call can be made")
                reading = await read_beside(module, completion)
            except Unreadable as error:
                request.record(fields, within=(turn, 0), error=str(error))
                if again + 1 == tries:
                    raise StepFailed("unreadable", with_start(error, completion.text), site.path) from error
                messages += repair_messages(completion.text, error)
                continue
            request.record(fields, within=(turn, 0), outputs=reading.values, forgiven=reading.forgiven)
            return reading.values
        away = [call for call in calls if client and client.takes(call.tool) and call.problem is None]
        here = [call for call in calls if call not in away]
        answers = await _together(run, module, tools, here, site, turn)
        reminder = ANSWER_NOW if turn + 2 == module.max_turns and not away else None
        messages += [said, *way.answered(list(zip(here, answers, strict=True)), reminder)]
        if away:
            made = (
                ToolCall(call.id, call.tool, call.arguments, formats.as_text(call.arguments, JSON)) for call in away
            )
            raise ClientCalled(ClientCalls(tuple(made), tuple(messages[before:])))
    raise AssertionError("unreachable: the last turn returns or raises")


async def _together(
    run: Run, module: Module, tools: Mapping[str, Tool], calls: Sequence[RequestedCall], site: Site, turn: int
) -> list[ToolResult]:
    """Return the results of the tool calls of one turn, in their order; the calls run at the same time, and where one of
    them raises, the others are cancelled. `turn` is the number of the turn, from 0."""
    tasks = [
        asyncio.create_task(_answer(run, module, tools, call, site, (turn, 1 + position)))
        for position, call in enumerate(calls)
    ]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(
    run: Run, module: Module, tools: Mapping[str, Tool], call: RequestedCall, site: Site, within: tuple[int, ...]
) -> ToolResult:
    """Make a tool call of an agent, record it, and return its result; for a call that cannot be made or that failed a message
    for the LM.

    `tools` are the agent's by the names that the LM is shown, `within` the numbers of the turn and of the call in it. Raises
    StepFailed where an MCP server cannot be reached.
    """
    tool = tools.get(call.tool)
    problem = call.problem
    if problem is None and tool is None:
        client = run.client_of(site)
        names = [*tools, *(offer.name for offer in client.offers)] if client else [*tools]
        problem = f"there is no tool {call.tool!r}; the tools are {', '.join(names)}"
    arguments = dict(call.arguments) if tool is None else _meant(tool, call.arguments)
    if problem is None and tool is not None:
        problem = wrong_arguments(tool, arguments)
    if problem is not None or tool is None:
        run.record(
            (*site.place, *within),
            ToolInvocation,
            tool=call.tool if tool is None else tool.id,
            path=site.path,
            attempt=site.attempt,
            module=module.id,
            arguments=arguments,
            started=time.time(),
            seconds=0.0,
            error=problem,
            failure="tool",
        )
        return ToolResult(problem or "", failed=True)
    try:
        result = await call_tool(run, tool, arguments, site, module=module.id, within=within)
    except ToolFailed as error:
        if tool.kind == "mcp" and isinstance(error, ToolUnreachable):
            # No turn of the LM can mend a server that does not start: the run fails as with a provider that is down.
            raise StepFailed(error.kind, str(error), site.path) from error
        return ToolResult(str(error), failed=True)
    return ToolResult(formats.as_text(result, tool.type), failed=False)


def _meant(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of `tool` without null values for parameters that have a default, as LMs write null for
    what they leave out."""
    return {
        name: value
        for name, value in arguments.items()
        if value is not None or name not in tool.parameters or not tool.parameters[name].has_default
    }


class NativeToolCalls:
    """Tool calls through the provider's API: offered in `tools` of the request, read from `tool_calls` of the reply,
    answered by messages of the role `tool`. `tools` are the agent's by their names for the LM, `of_client` the offers
    of the tools of a server's client."""

    def __init__(self, tools: Mapping[str, Tool], of_client: Sequence[ToolOffer] = ()) -> None:
        self._offers = (*(offer(tool, name) for name, tool in tools.items()), *of_client)

    def offers(self) -> dict[str, Any]:
        return {"tools": self._offers}

    def calls(self, completion: Completion, forgiven: list[str]) -> tuple[Message, list[RequestedCall]]:
        asked = []
        for position, made in enumerate(completion.tool_calls):
            given, problem = made.arguments, None
            if given is None:
                given, problem = tool_calls.arguments(made.written, forgiven)
            asked.append(RequestedCall(made.id or f"call_{position}", made.name, given, problem))
        # A provider may refuse its own turn without what it added to it: reasoning, signatures.
        wrote = {name: value for name, value in (completion.message or {}).items() if value is not None}
        written = []
        for position, (call, own) in enumerate(zip(asked, completion.tool_calls, strict=True)):
            said = wrote["tool_calls"][position] if position < len(wrote.get("tool_calls") or ()) else {}
            function = {**said.get("function", {}), "name": call.tool, "arguments": _written(call, own)}
            written.append({**said, "id": call.id, "type": "function", "function": function})
        content = wrote.get("content") or completion.text or None
        return {**wrote, "role": "assistant", "content": content, "tool_calls": written}, asked

    def answered(self, calls: Sequence[tuple[RequestedCall, ToolResult]], reminder: str | None) -> list[Message]:
        turns = tool_protocol.native_results((call.id, answer.text, answer.failed) for call, answer in calls)
        return [*turns, {"role": "user", "content": reminder}] if reminder else turns


class TextToolCalls:
    """Tool calls as text, for LMs whose API has none: the prompt explains the notation, and a user message carries the
    results. A server's client cannot offer tools beside them."""

    def offers(self) -> dict[str, Any]:
        return {}

    def calls(self, completion: Completion, forgiven: list[str]) -> tuple[Message, list[RequestedCall]]:
        text, calls = tool_calls.read(completion.text, forgiven)
        asked = [RequestedCall("", call.tool, call.arguments, call.problem) for call in calls]
        return {"role": "assistant", "content": text}, asked

    def answered(self, calls: Sequence[tuple[RequestedCall, ToolResult]], reminder: str | None) -> list[Message]:
        shown = tool_protocol.shown((call.tool, answer.text, answer.failed) for call, answer in calls)
        return [{"role": "user", "content": f"{shown}\n\n{reminder}" if reminder else shown}]


def offer(tool: Tool, name: str) -> ToolOffer:
    """Return a tool as an LM's API is offered it: under `name` (the tool's id, already in the characters that APIs
    allow), with its description and the JSON schema of its parameters."""
    properties = {
        name: {
            **(field.schema or json_schema(field.type)),
            **({"description": field.about.strip()} if field.about else {}),
        }
        for name, field in tool.parameters.items()
    }
    required = [name for name, field in tool.parameters.items() if not field.has_default]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": tool.open}
    return ToolOffer(name, tool_protocol.summary(tool), schema)


def _written(call: RequestedCall, own: ToolCall) -> str:
    """Return the text of a call's arguments for the next request: as the LM wrote it (`own`) where that is a JSON object,
    else the arguments as read, since an API refuses text that is no JSON."""
    return own.written if own.arguments is not None and own.written else formats.as_text(call.arguments, JSON)
