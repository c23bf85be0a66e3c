"""Runs as OpenTelemetry metrics, after the semantic conventions for generative AI: tokens and durations by model and tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmprog.traces.record import Invocation, Record
from lmprog.traces.run_trace import RunTrace
from lmprog.traces.telemetry import ROOT, failure_kind, newest, requested
from lmprog.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

TOKENS = [4**power for power in range(14)]
"""Bounds of the buckets of token counts, as the conventions name them."""
SECONDS = [0.01 * 2**power for power in range(14)]
"""Bounds of the buckets of durations of one call, in seconds."""
RUN_SECONDS = [0.1 * 2**power for power in range(13)]
"""Bounds of the buckets of durations of a run, in seconds."""


class Measurements:
    """An exporter that measures the tokens and seconds of each LM call of a run, by an OpenTelemetry meter provider.

    The metrics have the names of release 1.41 of the conventions, which present tools show, or those of the newest conventions
    where the environment asks for them; these also have the seconds of tool calls and of whole runs. Replies from lmprog's
    cache are not counted, since they cost nothing.
    """

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter("lmprog", __version__)
        self._newest = newest()

        def seconds(name: str, about: str, bounds: list[float] = SECONDS) -> Any:
            return meter.create_histogram(name, "s", about, explicit_bucket_boundaries_advisory=bounds)

        def tokens(name: str, about: str) -> Any:
            return meter.create_histogram(name, "{token}", about, explicit_bucket_boundaries_advisory=TOKENS)

        if not self._newest:
            self._calls = seconds("gen_ai.client.operation.duration", "GenAI operation duration.")
            self._tokens = tokens("gen_ai.client.token.usage", "Number of input and output tokens used.")
            return
        inference = "gen_ai.client.inference"
        self._calls = seconds(f"{inference}.duration", "Duration of an inference.")
        self._tools = seconds("gen_ai.execute_tool.duration", "Duration of a tool's execution.")
        self._runs = seconds("gen_ai.invoke_agent.duration", "Duration of a run.", RUN_SECONDS)
        self._used = {
            kind: meter.create_counter(f"{inference}.usage.{kind}_tokens", "{token}", f"Number of {kind} tokens.")
            for kind in ("input", "output", "cache_read.input", "reasoning.output")
        }
        self._of_call = {
            kind: tokens(f"{inference}.operation.{kind}_tokens", f"Number of {kind} tokens of one call.")
            for kind in ("input", "output")
        }

    def __call__(self, run: RunTrace) -> None:
        for record in run.records:
            if isinstance(record, Invocation) and not record.cached:
                self._call(record)
            elif self._newest and not isinstance(record, Invocation):
                of_tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": record.tool}
                self._tools.record(record.seconds, of_tool | _failed(record))
        if self._newest:
            failed = {"error.type": run.error.kind} if run.error is not None else {}
            of_run = {"gen_ai.operation.name": ROOT, "gen_ai.agent.name": run.program}
            self._runs.record(max(0.0, run.ended - run.began), of_run | failed)

    def _call(self, made: Invocation) -> None:
        backend, model = requested(made)
        common: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": backend.telemetry or backend.prefix,
            "gen_ai.request.model": model,
        }
        if made.response_model is not None:
            common["gen_ai.response.model"] = made.response_model
        # A reply that cannot be read is none of the request's failures: the model answered.
        failed = _failed(made) if made.text is None else {}
        self._calls.record(made.seconds, common | failed)
        if made.usage is None:
            return
        counts: Mapping[str, int] = {"input": made.usage.prompt_tokens, "output": made.usage.completion_tokens}
        if not self._newest:
            for kind, count in counts.items():
                self._tokens.record(count, common | {"gen_ai.token.type": kind})
            return
        more = {"cache_read.input": made.usage.cached_tokens, "reasoning.output": made.usage.reasoning_tokens}
        for kind, count in {**counts, **more}.items():
            if count or kind in counts:
                self._used[kind].add(count, common | {"gen_ai.token.modality": "unknown"})
        for kind, count in counts.items():
            self._of_call[kind].record(count, common)


def _failed(record: Record) -> dict[str, str]:
    return {"error.type": failure_kind(record)} if record.error is not None else {}
