"""Runs as OpenTelemetry spans, after the semantic conventions for generative AI (1.41, in development).

A run is `invoke_workflow {program}`; below it stand its calls, `chat {model}` and `execute_tool {tool}`, with the times that
they had. What the conventions have no name for is under `lmprog.`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lmprog.compiler.backends import backend_of
from lmprog.errors import UsageError
from lmprog.failure import CANCELLED
from lmprog.traces.record import Invocation, Record, ToolInvocation
from lmprog.traces.run_trace import RunTrace, warn
from lmprog.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider as SdkProvider
    from opentelemetry.trace import TracerProvider

PARAMS = ("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty")
TIMEOUT = 5.0
"""Seconds in which a collector must take a batch."""
QUEUE = 65536
"""Spans that wait to be sent; what comes on top is dropped, so that a slow collector slows no run."""
PAUSE = 30.0
"""Seconds for which a collector that failed is sent nothing, so that the end of a process waits for it once at most."""
_LOGGERS = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.exporter.otlp.common.http")


class Spans:
    """An exporter that sends each run as spans to an OpenTelemetry tracer provider; texts and values only with `content`."""

    def __init__(
        self, provider: TracerProvider, content: bool = False, close: Callable[[], object] = lambda: None
    ) -> None:
        self.close = close
        self._tracer = provider.get_tracer("lmprog", __version__)
        self._content = content

    def __call__(self, run: RunTrace) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        root = self._tracer.start_span(
            f"invoke_workflow {run.program}",
            kind=SpanKind.INTERNAL,
            start_time=_nanoseconds(run.began),
            attributes={
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": run.program,
                "lmprog.example": run.example,
                "lmprog.rollout": run.rollout,
                **self._shown("CHAIN", run.inputs, run.outputs),
            },
        )
        below = set_span_in_context(root)
        for record in run.records:
            name, kind, attributes = self._chat(record) if isinstance(record, Invocation) else self._tool(record)
            span = self._tracer.start_span(
                name, context=below, kind=kind, start_time=_nanoseconds(record.started), attributes=attributes
            )
            if record.error is not None:
                self._fail(span, _kind(record), record.error)
            span.end(_nanoseconds(record.started + record.seconds))
        if run.error is not None:
            self._fail(root, run.error.kind, str(run.error))
        root.end(_nanoseconds(run.ended))

    def _chat(self, made: Invocation) -> tuple[str, Any, dict[str, Any]]:
        from opentelemetry.trace import SpanKind

        model = made.weights.partition("+")[0]
        name = model.partition("/")[2]
        backend = backend_of(model)
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": backend.telemetry or backend.prefix,
            "gen_ai.request.model": name or model,
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
                attributes["gen_ai.output.messages"] = _json([_reply(made)])
        return f"chat {name or model}", SpanKind.INTERNAL if backend.local else SpanKind.CLIENT, attributes

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

    def _shown(self, kind: str, given: Any, made: Any) -> dict[str, Any]:
        """Return what viewers that follow OpenInference show of a span: its kind, and with `content` what went in and out."""
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
        span.set_status(StatusCode.ERROR, message if self._content else None)


def spans_to(settings: Mapping[str, Any]) -> Spans:
    """Return the exporter to the OTLP collector that a spec names. Raises the errors of `collector`."""
    provider = collector(settings["otlp"], settings["headers"])
    return Spans(provider, settings["content"], provider.shutdown)


def collector(address: str, headers: Mapping[str, str]) -> SdkProvider:
    """Return an OpenTelemetry provider that sends spans in batches, from its own thread, to a collector by OTLP over HTTP.

    An address without a path gets the usual one, `/v1/traces`. Raises UsageError where OpenTelemetry is not installed, or
    `address` is no HTTP address.
    """
    from urllib.parse import urlsplit

    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UsageError(f"export over OTLP needs OpenTelemetry ({error}): pip install 'lmprog[otel]'") from None
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError("export: `otlp` must be the address of a collector, as http://127.0.0.1:4318")
    # What stands before an @ may be a secret.
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    endpoint = address if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1/traces"
    exporter = OTLPSpanExporter(endpoint, headers=dict(headers), timeout=TIMEOUT)
    for name in _LOGGERS:
        if _other not in (logger := logging.getLogger(name)).filters:
            logger.addFilter(_other)
    provider = TracerProvider(resource=Resource.create({"service.name": "lmprog"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Told(exporter, place), max_queue_size=QUEUE))
    return provider


class _Told:
    """An exporter of the SDK whose failures are told once and in our words."""

    def __init__(self, exporter: Any, place: str) -> None:
        self._exporter, self._place = exporter, place
        self._warned = False
        self._resume = 0.0

    def export(self, spans: Sequence[Any]) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        if time.monotonic() < self._resume:
            return SpanExportResult.FAILURE
        cause = ""
        _ours.exporting = True
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            result, cause = SpanExportResult.FAILURE, f" ({type(error).__name__})"
        finally:
            _ours.exporting = False
        if result is not SpanExportResult.SUCCESS:
            self._resume = time.monotonic() + PAUSE
            if not self._warned:
                warn(f"the collector at {self._place} takes no traces{cause}; the runs go on without")
            self._warned = True
        return result

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True

    def shutdown(self) -> None:
        self._exporter.shutdown()


_ours = threading.local()


def _other(record: logging.LogRecord) -> bool:
    """Keep the log records of other exporters in the process; lmprog reports its own failures itself."""
    return not getattr(_ours, "exporting", False)


def _where(record: Record) -> dict[str, Any]:
    path = f"{record.parent}/{record.path}" if record.parent else record.path
    return {"lmprog.program": record.program, "lmprog.path": path, "lmprog.attempt": record.attempt}


def _kind(record: Record) -> str:
    if record.error == CANCELLED:
        return "cancelled"
    if isinstance(record, ToolInvocation):
        return record.failure or "tool"
    return "provider" if record.text is None else "unreadable"


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "content": content or ""}]
    return {"role": message.get("role"), "parts": [_part(part) for part in parts]}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "text", "content": part["text"]} if "text" in part else dict(part)


def _reply(made: Invocation) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "content": made.text}] if made.text else []
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments} for call in made.tool_calls
    ]
    return {"role": "assistant", "parts": parts, "finish_reason": made.finish_reason}


def _json(value: Any) -> str:
    # Half a surrogate pair cannot be sent as UTF-8, so all beyond ASCII is escaped.
    return json.dumps(value, default=str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
