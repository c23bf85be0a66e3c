"""OpenAI's protocol: a program is a model of `GET /v1/models`, and answers `POST /v1/chat/completions`.

A program is a model where its one input without a default is of the type `messages`, which gets the whole conversation, or a
text, which gets the last message of the user. The reply is its one output, or all of them as a JSON object.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from lmprog.compiler.plan import Plan
from lmprog.compiler.types.lattice import MESSAGES, STR, mismatch
from lmprog.runtime.client_tools import ClientTools
from lmprog.runtime.events import Event, TextPiece
from lmprog.runtime.result import Result
from lmprog.serving.client_tools import WaitingTurns, client_tools, with_calls_answered
from lmprog.serving.event_stream import EventStream
from lmprog.serving.field_pieces import FieldPieces
from lmprog.serving.refusals import Refused
from lmprog.serving.run_answer import usage_of
from lmprog.state.json_lines import as_line

PREFIX = "chatcmpl-"
"""The text before the id of the run in the id of a chat completion."""


def chat_input(plan: Plan) -> str | None:
    """Return the name of the input that takes a chat: the one input that must be given, of the type `messages` (the whole
    conversation) or `str` (the last message of the user); None where the program cannot be used as a chat model."""
    wanted = [name for name, field in plan.inputs.items() if not field.has_default and mismatch(None, field.type)]
    taken = [name for name in wanted if plan.inputs[name].type in (MESSAGES, STR)]
    return taken[0] if len(wanted) == len(taken) == 1 else None


def model_of(plan: Plan) -> dict[str, Any]:
    """Return the program as one entry of `GET /v1/models`, a dictionary in OpenAI's form: `id` (its name), `object`,
    `created` (always 0), `owned_by`."""
    return {"id": plan.name, "object": "model", "created": 0, "owned_by": "lmprog"}


class ChatAnswer:
    """The response to one `POST /v1/chat/completions` (OpenAI's protocol), an `Answer` of `running.py`.

    The program decides how its LMs sample: temperature, max_tokens and the like in the request are ignored. `waiting`,
    which all requests share, has the turns of agents whose calls of a client's tools have no results yet, and `id` is
    the run's.
    """

    def __init__(self, plan: Plan, waiting: WaitingTurns, request: Request, send: Send, id: str) -> None:
        self.streams = False
        self.client_tools: ClientTools | None = None
        self._plan, self._waiting, self._stream = plan, waiting, EventStream(send)
        self._id, self._created = f"{PREFIX}{id}", int(time.time())
        self._counts_usage = False
        self._sent = ""
        outputs = list(plan.outputs)
        self._output = outputs[0] if len(outputs) == 1 else None
        self._fields = FieldPieces(plan)

    def inputs(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the program's one input by name, from the messages of the request: the whole conversation, or the text
        of the user's last message; and set `streams` and `client_tools` as the request wants them.

        Raises Refused where the program is no chat model, where `model` is absent or names another, where messages
        (such as none of the user for a text) or tools do not fit, and for more than one answer (`n`).
        """
        name = chat_input(self._plan)
        if name is None:
            raise _wrong(f"{self._plan.name} has other inputs than one conversation or one text; use POST /run")
        if body.get("model") != self._plan.name:
            raise _wrong(f"there is no model {body.get('model')!r} here; the model is {self._plan.name!r}", "no_model")
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
            raise _wrong("`messages` is a list of messages, each with a role and a content")
        messages = with_calls_answered(messages)
        self.client_tools = client_tools(self._plan, name, body, self._waiting)
        if body.get("functions"):
            raise _wrong("`functions` are not taken: send them as `tools`")
        if body.get("n") not in (None, 1):
            raise _wrong("`n` is 1: a program has one answer")
        self.streams = body.get("stream") is True
        options = body.get("stream_options")
        self._counts_usage = isinstance(options, Mapping) and options.get("include_usage") is True
        return {name: messages if self._plan.inputs[name].type == MESSAGES else _last_text(messages)}

    def tags(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the entries of `metadata` of the request, with its `user` in place of one among them, as tags by name,
        unchecked; empty where it has neither, or null. Raises Refused where `metadata` is no object."""
        given = body.get("metadata") or {}
        if not isinstance(given, Mapping):
            raise _wrong("`metadata` is an object of texts")
        user = body.get("user")
        return {**given, **({"user": user} if user is not None else {})}

    async def begin(self) -> None:
        """Send the headers of the stream, and a first chunk with the role `assistant`."""
        await self._stream.begin()
        await self._chunk({"role": "assistant", "content": ""})

    async def tell(self, event: Event) -> None:
        """Send the text that an event of the run adds to the program's one output; nothing for other events, and where the
        output is no text of one reply. Raises Refused where the LM begins the reply again after text of it was sent."""
        if not isinstance(event, TextPiece):
            return
        for output, piece in self._fields.of(event):
            if output == self._output:
                await self._say(piece)

    async def end(self, result: Result, id: str, seconds: float) -> Response | None:
        """Return the response with the run's outputs, or with the calls of the client's tools, whose turns are then
        kept in `waiting`; for a stream send what is left of it and return None.

        `id` is the run's, `seconds` the time that it took, which the response does not have. Raises Refused where the
        answer does not go on from what was streamed, and ValueError, TypeError or RecursionError for outputs that are
        no JSON, before more of a stream is sent.
        """
        outputs = result.outputs or {}
        used = usage_of(result)
        usage = {
            "prompt_tokens": used["prompt_tokens"],
            "completion_tokens": used["completion_tokens"],
            "total_tokens": used["prompt_tokens"] + used["completion_tokens"],
        }
        calls = self._waiting.keep(id, result.client_calls) if result.client_calls is not None else []
        finish = "tool_calls" if calls else "stop"
        whole = outputs[self._output] if self._output is not None and not calls else outputs
        text = whole if isinstance(whole, str) else json.dumps(whole, ensure_ascii=False, allow_nan=False)
        if not self.streams:
            said = {"content": None, "tool_calls": calls} if calls else {"content": text}
            choice = {"index": 0, "message": {"role": "assistant", **said, "refusal": None}, "finish_reason": finish}
            body = {"choices": [{**choice, "logprobs": None}], "usage": usage}
            return Response(as_line(self._object("chat.completion") | body), media_type="application/json")
        text = self._sent if calls else text
        if not text.startswith(self._sent):
            raise Refused("program", "outputs", "the answer turned out otherwise than what was sent of it")
        if text[len(self._sent) :]:
            await self._chunk({"content": text[len(self._sent) :]})
        for position, call in enumerate(calls):
            await self._chunk({"tool_calls": [{"index": position, **call}]})
        await self._chunk({}, finish)
        if self._counts_usage:
            await self._stream.event(as_line(self._object("chat.completion.chunk") | {"choices": [], "usage": usage}))
        await self._stream.event(b"[DONE]\n")
        await self._stream.end()
        return None

    async def refuse(self, refused: Refused) -> Response | None:
        """Return an error response in OpenAI's form; where a stream has begun, end it with the error and return
        None."""
        error = refused.body["error"]
        body = {"error": error | {"type": error["kind"], "code": error["kind"], "param": error["path"]}}
        if not self._stream.begun:
            response = refused.response
            return Response(as_line(body), refused.status, _kept(response), "application/json")
        await self._stream.event(as_line(body))
        await self._stream.end()
        return None

    async def _say(self, piece: str | None) -> None:
        if piece is None:
            # The client has it already, and no event of this protocol takes a text back.
            raise Refused("unreadable", None, "the LM began its reply anew, after a part of it was sent")
        self._sent += piece
        await self._chunk({"content": piece})

    async def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        await self._stream.event(as_line(self._object("chat.completion.chunk") | {"choices": [choice]}))

    def _object(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._plan.name}


def _last_text(messages: list[Mapping[str, Any]]) -> str:
    """Return the text of the last message of the user. Raises Refused where there is none."""
    said = next((message.get("content") for message in reversed(messages) if message.get("role") == "user"), None)
    if isinstance(said, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in said):
        said = "".join(str(part.get("text", "")) for part in said)
    if not isinstance(said, str):
        raise _wrong("the program reads a text: the last message of the user has none")
    return said


def _wrong(said: str, kind: str = "input") -> Refused:
    """Return the refusal of a request with the message `said`, at `messages` for the kind `input`."""
    return Refused(kind, "messages" if kind == "input" else None, said)


def _kept(response: Response) -> dict[str, str]:
    """Return the headers of a refusal that any form of its body needs: `retry-after` and `connection`, where it has them."""
    return {name: value for name, value in response.headers.items() if name in ("retry-after", "connection")}
