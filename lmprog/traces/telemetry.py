"""Runs as OpenTelemetry spans, after the semantic conventions for generative AI (in development).

A run is `invoke_agent {program}`; below it stand its calls, `chat {model}` and `execute_tool {tool}`, with the times that
they had. What the conventions have no name for is under `lmprog.`. Release 1.41 of the conventions is followed, and the newest
one (0.1.0 of the conventions that moved out) where the environment asks for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lmprog.compiler.backends import Backend, backend_of
from lmprog.compiler.plan import Plan
from lmprog.compiler.trust.private import private_names
from lmprog.failure import CANCELLED
from lmprog.traces.record import Invocation, Record, ToolInvocation
from lmprog.traces.run_trace import RunTrace
from lmprog.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

ROOT = "invoke_agent"
"""The operation of a whole run. A program may be a workflow or an agent, and where an instrumentation does not know which, the
conventions want this name."""
SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
NEWEST = "gen_ai_latest_experimental"
PARAMS = ("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty")
SESSION = ("session.id", "gen_ai.conversation.id")
"""The attributes of the tag `session`: OpenInference's, which viewers group runs by, and that of the conventions."""
USER = ("user.id",)
"""The attributes of the tag `user`."""


def newest() -> bool:
    """Return whether the environment asks for the newest conventions: with `gen_ai_latest_experimental` in the list
    `OTEL_SEMCONV_STABILITY_OPT_IN`."""
    return NEWEST in [part.strip() for part in os.environ.get(OPT_IN, "").split(",")]


class Spans:
    """An exporter that sends each run as spans to an OpenTelemetry tracer provider: with `content` also prompts, replies,
    arguments, results and messages of errors, and of a program's own inputs and outputs those that are not private. `close`
    is called at the end of the process."""

    def __init__(
        self, provider: TracerProvider, content: bool = False, close: Callable[[], object] = lambda: None
    ) -> None:
        self.close = close
        self._newest = newest()
        self._tracer = provider.get_tracer("lmprog", __version__, schema_url=None if self._newest else SCHEMA)
        self._content = content
        self._private: tuple[Plan, frozenset[str]] | None = None

    def __call__(self, run: RunTrace) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        tagged = _tagged(run.tags)
        root = self._tracer.start_span(
            f"{ROOT} {run.program}",
            kind=SpanKind.INTERNAL,
            start_time=_nanoseconds(run.began),
            attributes={
                "gen_ai.operation.name": ROOT,
                "gen_ai.agent.name": run.program,
                "lmprog.example": run.example,
                "lmprog.rollout": run.rollout,
                **({"lmprog.client_calls": [call.name for call in run.client_calls]} if run.client_calls else {}),
                **tagged,
                **self._shown("CHAIN", *self._public(run)),
            },
        )
        below = set_span_in_context(root)
        for record in run.records:
            name, kind, attributes = self._chat(record) if isinstance(record, Invocation) else self._tool(record)
            attributes |= tagged
            span = self._tracer.start_span(
                name, context=below, kind=kind, start_time=_nanoseconds(record.started), attributes=attributes
            )
            if record.error is not None:
                self._fail(span, failure_kind(record), record.error)
            span.end(_nanoseconds(record.started + record.seconds))
        if run.error is not None:
            self._fail(root, run.error.kind, str(run.error))
        root.end(_nanoseconds(run.ended))

    def _chat(self, made: Invocation) -> tuple[str, Any, dict[str, Any]]:
        from opentelemetry.trace import SpanKind

        backend, model = requested(made)
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": backend.telemetry or backend.prefix,
            "gen_ai.request.model": model,
            "lmprog.module": made.module,
            **_where(made),
            **self._shown("LLM", made.messages, made.text),
        }
        named = {"gen_ai.response.model": made.response_model, "gen_ai.response.id": made.response_id}
        attributes |= {key: value for key, value in named.items() if value is not None}
        attributes |= {f"gen_ai.request.{key}": made.params[key] for key in PARAMS if _number(made.params.get(key))}
        stop = made.params.get("stop")
        if stop:
            attributes["gen_ai.request.stop_sequences"] = (
                [stop] if isinstance(stop, str) else [str(text) for text in stop]
            )
        if made.seed is not None:
            attributes["gen_ai.request.seed"] = made.seed
        if made.finish_reason is not None:
            attributes["gen_ai.response.finish_reasons"] = [made.finish_reason]
        if made.usage is not None:
            attributes["gen_ai.usage.input_tokens"] = made.usage.prompt_tokens
            attributes["gen_ai.usage.output_tokens"] = made.usage.completion_tokens
            attributes["gen_ai.usage.cache_read.input_tokens"] = made.usage.cached_tokens
            if made.usage.reasoning_tokens:
                attributes["gen_ai.usage.reasoning.output_tokens"] = made.usage.reasoning_tokens
            if made.usage.usd is not None:
                attributes["lmprog.usd"] = made.usage.usd
        if made.cached:
            attributes["lmprog.cached"] = True
        if made.lm is not None:
            attributes["lmprog.lm"] = made.lm
        if made.passed_over:
            attributes["lmprog.passed_over"] = list(made.passed_over)
        if made.forgiven:
            attributes["lmprog.forgiven"] = list(made.forgiven)
        if self._content:
            attributes["gen_ai.input.messages"] = _json([_message(message) for message in made.messages])
            if made.text is not None:
                attributes["gen_ai.output.messages"] = _json([self._reply(made)])
        return f"chat {model}", SpanKind.INTERNAL if backend.local else SpanKind.CLIENT, attributes

    def _tool(self, made: ToolInvocation) -> tuple[str, Any, dict[str, Any]]:
        from opentelemetry.trace import SpanKind

        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": made.tool,
            "gen_ai.tool.type": "function",
            **({"lmprog.module": made.module} if made.module else {}),
            **_where(made),
            **self._shown("TOOL", made.arguments, made.result if made.error is None else None),
        }
        if self._content:
            attributes["gen_ai.tool.call.arguments"] = _json(made.arguments)
            if made.error is None:
                attributes["gen_ai.tool.call.result"] = _json(made.result)
        return f"execute_tool {made.tool}", SpanKind.INTERNAL, attributes

    def _public(self, run: RunTrace) -> tuple[Any, Any]:
        """Return the inputs and the outputs (None: it has none) of a run without the private ones; of a judge's run, which
        has no plan, all."""
        if not self._content or run.plan is None:
            return run.inputs, run.outputs
        if self._private is None or self._private[0] is not run.plan:
            self._private = run.plan, frozenset().union(*private_names(run.plan))
        hidden = self._private[1]
        inputs, outputs = (
            values and {name: value for name, value in values.items() if name not in hidden}
            for values in (run.inputs, run.outputs)
        )
        return inputs, outputs

    def _shown(self, kind: str, given: Any, made: Any) -> dict[str, Any]:
        """Return the attributes that viewers which follow OpenInference show of a span: its kind (`CHAIN`, `LLM`, `TOOL`),
        and with `content` its input (`given`) and output (`made`; None: it has none) as text."""
        found = {"openinference.span.kind": kind}
        if self._content:
            for side, value in (("input", given), ("output", made)):
                if value is not None:
                    plain = isinstance(value, str)
                    found[f"{side}.value"] = (
                        value.encode("utf-8", "backslashreplace").decode() if plain else _json(value)
                    )
                    found[f"{side}.mime_type"] = "text/plain" if plain else "application/json"
        return found

    def _fail(self, span: Any, kind: str, message: str) -> None:
        from opentelemetry.trace import StatusCode

        span.set_attribute("error.type", kind)
        # An error may quote a reply or an argument.
        said = message.encode("utf-8", "backslashreplace").decode()  # OTLP cannot send half a surrogate pair
        span.set_status(StatusCode.ERROR, said if self._content else None)

    def _reply(self, made: Invocation) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"type": "text", "content": made.text}] if made.text else []
        parts += [
            {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
            for call in made.tool_calls
        ]
        # The newest conventions have it in `gen_ai.response.finish_reasons` alone.
        ended = {} if self._newest else {"finish_reason": made.finish_reason}
        return {"role": "assistant", "parts": parts, **ended}


def requested(made: Invocation) -> tuple[Backend, str]:
    """Return the backend of a call, and the name that its provider has for the model that was asked for, without the
    backend's prefix. `made` is the record of the call."""
    model = made.weights.partition("+")[0]
    return backend_of(model), model.partition("/")[2] or model


def failure_kind(record: Record) -> str:
    """Return the kind of failure of a call that failed, as OpenTelemetry's `error.type` wants it: `cancelled`,
    `provider`, `unreadable`, `tool` or `connection`."""
    if record.error == CANCELLED:
        return "cancelled"
    if isinstance(record, ToolInvocation):
        return record.failure or "tool"
    return "provider" if record.text is None else "unreadable"


def _tagged(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the span attributes of a run's tags: `session` and `user` under the names that viewers know, and each other tag
    under a name of its own and together in `metadata`, as JSON."""
    found: dict[str, Any] = {}
    for name, value in tags.items():
        found |= dict.fromkeys({"session": SESSION, "user": USER}.get(name, (f"lmprog.tag.{name}",)), value)
    others = {name: value for name, value in tags.items() if name not in ("session", "user")}
    return found | ({"metadata": _json(others)} if others else {})


def _where(record: Record) -> dict[str, Any]:
    path = f"{record.parent}/{record.path}" if record.parent else record.path
    return {"lmprog.program": record.program, "lmprog.path": path, "lmprog.attempt": record.attempt}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "content": content or ""}]
    return {"role": message.get("role"), "parts": [_part(part) for part in parts]}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "text", "content": part["text"]} if "text" in part else dict(part)


def _json(value: Any) -> str:
    # Half a surrogate pair cannot be sent as UTF-8, so all beyond ASCII is escaped.
    return json.dumps(value, default=str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
