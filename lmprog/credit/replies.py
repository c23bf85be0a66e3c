"""The replies of one run, for replay in other runs of the same row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from lmprog.credit.order import Order, Place, Places
from lmprog.lms.lm import Completion, Request
from lmprog.traces.record import Invocation


class Replies:
    """The recorded replies of one run, by the path and the attempt of the call; calls that got no reply are left out.
    `trace` has the run's records of LM calls, `order` finds the places of calls in the program."""

    def __init__(self, order: Order, trace: Sequence[Invocation]) -> None:
        self._place_of: dict[str, Place] = {}
        self._kept: dict[tuple[str, int], list[Invocation]] = defaultdict(list)
        self.places: dict[Place, str] = {}
        """The places at which the run got replies, each with the name of its module, in the order of the plan."""
        for made in trace:
            if made.text is not None:
                path = whole_path(made)
                self._kept[path, made.attempt].append(made)
                self._place_of[path], module = order.place(path)
                self.places[self._place_of[path]] = module

    def but(self, anew: Places) -> Callable[[Request], Completion | None]:
        """Return a function for `RunOptions.replay`: it returns the recorded reply to a request with the same path, attempt
        and messages, and None, so that the request is sent, for those at the places of `anew` and for those without a
        recorded reply."""

        def reply(request: Request) -> Completion | None:
            _, _, path, attempt, *_ = request.key
            if self._place_of.get(str(path)) in anew:
                return None
            # The turns of an agent share their place, and differ in their messages.
            kept = self._kept.get((str(path), int(attempt)), ())
            return next((_again(made) for made in kept if list(made.messages) == list(request.messages)), None)

        return reply


def whole_path(made: Invocation) -> str:
    """Return a call's path with the outer programs' steps before it (`outer_step/inner_step`), as in the `key` of its
    request. `made` is the record of the call."""
    return f"{made.parent}/{made.path}" if made.parent else made.path


def _again(made: Invocation) -> Completion:
    """Return the reply that a record holds, marked as cached, since it costs nothing again."""
    return Completion(
        text=made.text or "",
        token_ids=made.token_ids,
        logprobs=made.logprobs,
        prompt_token_ids=made.prompt_token_ids,
        usage=made.usage,
        finish_reason=made.finish_reason or "stop",
        tool_calls=made.tool_calls,
        cached=True,
        message=made.message,
        model=made.response_model,
        id=made.response_id,
        lm=made.lm,
        passed_over=made.passed_over,
    )
