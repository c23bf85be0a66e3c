"""The environment variables of OpenTelemetry that decide whether a program's runs are sent where its spec names no collector.

Addresses, headers, timeouts, compression, certificates, intervals and attributes of the resource are read by the SDK itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lmprog.compiler.plan import Plan
from lmprog.compiler.trust.private import holds_private

_CONTENT = ("true", "1", "span_only", "span_and_event")


@dataclass(frozen=True)
class Wanted:
    """The signals that the environment variables ask to export: spans (`traces`), metrics, or both.

    `content` is True where prompts and replies are sent with the spans.
    """

    traces: bool
    metrics: bool
    content: bool


def disabled() -> bool:
    """Return whether `OTEL_SDK_DISABLED` turns all exports to collectors off, by `true` in letters of any size."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def wanted(environ: Mapping[str, str] | None = None) -> Wanted | None:
    """Return the exports that environment variables turn on (`environ`, None: those of the process); None where they
    turn on none, or `OTEL_SDK_DISABLED` turns all off.

    Spans are sent with `OTEL_TRACES_EXPORTER=otlp`, or where this is not set and an endpoint is. Metrics likewise, but
    only for an endpoint of their own, since many collectors of traces accept no metrics. `content` is what
    `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` says.
    """
    given = os.environ if environ is None else environ
    if given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    both = given.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    traces = _chosen(given, "OTEL_TRACES_EXPORTER", both or given.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
    metrics = _chosen(given, "OTEL_METRICS_EXPORTER", given.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"))
    if not traces and not metrics:
        return None
    content = given.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip().lower() in _CONTENT
    return Wanted(traces, metrics, content)


def address_of(signal: str) -> str:
    """Return the address that the environment names for a signal (TRACES, METRICS): its own as it is, or the common one with
    `/v1/traces` or `/v1/metrics` behind it; else that of a collector on this machine (port 4318)."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318"
    return own or f"{base.rstrip('/')}/v1/{signal.lower()}"


def speaks_grpc(signal: str) -> bool:
    """Return whether the environment wants the protocol gRPC for a signal (TRACES, METRICS), which lmprog does not send."""
    named = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return (named or "").strip().lower() == "grpc"


class ContentRule:
    """The rule for sending prompts and replies where only the environment asks for it: never after a program with private
    values has run in this process.

    The check looks only at exports that the spec names, and a judge, a program of its own, may be given private values.
    """

    def __init__(self) -> None:
        self.private = False

    def allows(self, plan: Plan) -> bool:
        """Return whether prompts and replies of a run of `plan` may be sent; False from the first program with private
        values on."""
        self.private = self.private or holds_private(plan)
        return not self.private


def _chosen(given: Mapping[str, str], switch: str, endpoint: str | None) -> bool:
    """Return whether the variable `switch` names `otlp` among its exporters; where it is not set, whether there is an
    endpoint."""
    named = [part.strip().lower() for part in given.get(switch, "").split(",") if part.strip()]
    return "otlp" in named if named else bool(endpoint)
