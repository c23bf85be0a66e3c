"""A call of a module: its prompt, its LM, the reading of the reply, and the retries of an unreadable reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.compiler.plan import Module
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.failure import StepFailed
from lmprog.runtime.agent import run_agent
from lmprog.runtime.module_request import ModuleRequest, repair_messages
from lmprog.runtime.replies import read_beside, with_start
from lmprog.runtime.run import Run, Site


async def call_module(run: Run, module: Module, inputs: dict[str, Any], site: Site) -> Mapping[str, Any]:
    """Call a module: send its prompt to its LM, again after an unreadable reply as often as its `retry` allows (not at
    all with the run option `retry` False); return its outputs by name.

    `inputs` are the module's, by name, and `site` is the position of the calling step. A module with tools runs as an
    agent. All calls are recorded in `run`. Raises StepFailed where the prompt cannot be rendered, the LM gives no
    reply, or the last reply cannot be read, ClientCalled where an agent calls tools of a server's client, and unchanged
    what concerns more than this run, such as BudgetExceeded.
    """
    if module.tools:
        return await run_agent(run, module, inputs, site)
    request = ModuleRequest(run, module, inputs, site)
    prompt = request.prompt()
    messages: Sequence[Mapping[str, Any]] = prompt.messages
    tries = 1 + (module.retry if run.options.retry else 0)
    for turn in range(tries):
        attempt = site.attempt * tries + turn
        completion, fields = await request.ask(messages, prompt.constant, attempt)
        try:
            reading = await read_beside(module, completion)
        except Unreadable as error:
            request.record(fields, error=str(error))
            if turn + 1 == tries:
                raise StepFailed("unreadable", with_start(error, completion.text), site.path) from error
            messages = (*prompt.messages, *repair_messages(completion.text, error))
            continue
        request.record(fields, outputs=reading.values, forgiven=reading.forgiven)
        return reading.values
    raise AssertionError("unreachable: the last attempt returns or raises")
