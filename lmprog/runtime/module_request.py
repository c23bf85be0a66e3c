"""The requests of one call of a module: their prompt, their parameters and seed, and their records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmprog.aio.loops import being_cancelled
from lmprog.compiler.plan import Module
from lmprog.compiler.prompts.messages import Prompt
from lmprog.compiler.replies.ending import ending
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.templates.compiled import RenderError
from lmprog.errors import InfrastructureError, ProviderError
from lmprog.failure import CANCELLED, StepFailed
from lmprog.lms.images import NoImage, with_digests
from lmprog.lms.lm import Completion, Request
from lmprog.runtime.events import RequestMade, TextPiece
from lmprog.runtime.replies import spoken
from lmprog.runtime.run import Run, Site
from lmprog.seeds import derive
from lmprog.traces.record import Invocation


def repair_messages(text: str, error: Unreadable) -> tuple[dict[str, Any], ...]:
    """Return the two messages that ask for another reply: the model's unreadable reply `text` as it is, and what is
    wrong with it.

    Return no messages where the reply holds nothing but thinking, since providers refuse an empty message; the next try
    then differs by its seed alone.
    """
    if not spoken(text):
        return ()
    asked = f"That reply cannot be read: {error}. Reply again, as asked."
    return {"role": "assistant", "content": text}, {"role": "user", "content": asked}


class ModuleRequest:
    """Builds, sends and records the LM requests of one module call: one for each try, and for an agent one or more in
    each turn. `inputs` are the module's, by name, and `site` is the position of the calling step. Making it raises
    StepFailed where the constant part of the prompt cannot be rendered, and UsageError as `Resources.module`."""

    def __init__(self, run: Run, module: Module, inputs: Mapping[str, Any], site: Site) -> None:
        self.run, self.module, self.inputs, self.site = run, module, inputs, site
        self.declared = run.plan.lms[module.lm]
        try:
            self.ready = run.resources.module(module, run.plan)
        except RenderError as error:  # in the part that is the same for every row
            raise StepFailed("template", str(error), site.path) from error
        self.full_path = run.full_path(site.path)
        options = run.options
        over, own = options.params, options.module_params.get(module.id, {})
        self.params = {**self.declared.params, **over, **own} if over or own else self.declared.params

    def prompt(self) -> Prompt:
        """Return the module's prompt for its inputs; outside of dry runs with the digest of each image that is a local file.
        Raises StepFailed where rendering fails or an image cannot be read."""
        try:
            prompt = self.ready.builder.build(self.inputs)
        except RenderError as error:
            raise StepFailed("template", str(error), self.site.path) from error
        if not self.ready.builder.parts or self.run.resources.dry_run:
            return prompt
        try:
            return replace(prompt, messages=tuple(map(dict, with_digests(prompt.messages))))
        except NoImage as error:
            raise StepFailed("input", str(error), self.site.path) from error

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        constant: tuple[int, int],
        attempt: int,
        turn: tuple[int, ...] = (),
        **more: Any,
    ) -> tuple[Completion, dict[str, Any]]:
        """Send messages to the module's LM; return its reply, and the fields known so far of the call's record, to be
        passed to `record`. The reply is one of `options.replay` where that has one.

        `constant` is (m, c): the first m messages and the first c characters of message m are the same for every row.
        `attempt` counts from 0, `turn` has the number of an agent's turn (empty outside of agents), and `more` are
        further fields of the Request. Raises StepFailed where the provider gave no reply, and unchanged what concerns
        more than this run, such as BudgetExceeded. A request that was sent and got no reply, also by a cancellation, is
        recorded; one with a reply is left to `record`. `options.on_request` is called before.
        """
        run, module = self.run, self.module
        options = run.options
        if options.on_text is not None:
            more["on_text"] = self.stream_callback(options.on_text, attempt)
        request = Request(
            messages=messages,
            params=self.params,
            seed=derive(options.seed, run.example, options.rollout, module.id, self.full_path, attempt, *turn),
            adapter=self.ready.adapter,
            output_type=self.ready.output_type,
            format=module.format,
            constant=constant,
            key=(str(run.example), options.rollout, self.full_path, attempt, *turn),
            decoding=module.decoding,
        )
        if more:
            request = replace(request, **more)
        if options.on_request is not None:
            options.on_request(RequestMade(self.full_path, module, self.declared, attempt, request))
        fields: dict[str, Any] = {
            "module": module.id,
            "path": self.site.path,
            "attempt": attempt,
            "inputs": self.inputs,
            "messages": messages,
            "params": self.params,
            "tools": request.tools,
            "constrained": request.decoding == "constrained",
            "seed": request.seed,
            "weights": self.ready.weights,
            "started": time.time(),
            "text": None,
            "outputs": None,
        }
        started = time.perf_counter()
        try:
            completion = options.replay(request) if options.replay is not None else None
            if completion is None:
                lm, budget = run.lms[module.lm], run.resources.budget
                asked = lm.complete(request) if budget is None else budget.complete(lm, request, self.declared)
                completion = await asked
            if ending(completion.finish_reason) == "failed":
                raise ProviderError(f"{self.declared.model} failed within its reply ({completion.finish_reason})")
        except (asyncio.CancelledError, InfrastructureError) as error:
            fields["seconds"] = time.perf_counter() - started
            if cancelled := isinstance(error, asyncio.CancelledError):
                said = CANCELLED if being_cancelled() else f"{self.declared.model} was cancelled by its own code"
            else:
                said = str(error)
            self.record(fields, within=(*turn, 0) if turn else (), error=said)
            if isinstance(error, ProviderError) or (cancelled and said != CANCELLED):
                raise StepFailed("provider", said, self.site.path) from error
            raise
        fields.update(
            text=completion.text,
            prompt_token_ids=completion.prompt_token_ids,
            token_ids=completion.token_ids,
            logprobs=completion.logprobs,
            usage=completion.usage,
            finish_reason=completion.finish_reason,
            cached=completion.cached,
            tool_calls=completion.tool_calls,
            message=completion.message,
            response_model=completion.model,
            response_id=completion.id,
            lm=completion.lm,
            passed_over=completion.passed_over,
            seconds=time.perf_counter() - started,
        )
        return completion, fields

    def stream_callback(self, on_text: Callable[[TextPiece], None], attempt: int) -> Callable[[str | None], None]:
        """Return a function that makes a TextPiece of each piece of text that an LM streams (None: the reply begins
        again), and calls `on_text` with it. `attempt` is the number of the call's attempt, from 0."""
        return lambda piece: on_text(TextPiece(self.full_path, self.module.id, attempt, piece))

    def record(self, fields: dict[str, Any], *, within: tuple[int, ...] = (), **known: Any) -> None:
        """Add an LM call to the run's records (`Run.record`, which calls `options.on_record`): the `fields` that `ask`
        returned, and those `known` since, such as the outputs read.

        `within` is the position of the call within its step: for an agent the number of the turn and a 0, else empty.
        """
        self.run.record((*self.site.place, *within), Invocation, **{**fields, **known})
