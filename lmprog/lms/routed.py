"""An LM whose calls other LMs share in turn, or answer where it has an outage, as `balance` and `fallback` of a spec say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lmprog.compiler import plan
from lmprog.compiler.replies.ending import ending
from lmprog.errors import ProviderError
from lmprog.lms.lm import LM, Completion, Request
from lmprog.seeds import derive


class RoutedLM:
    """An LM that sends a request to one LM after the other, until one gives a reply; made by `routed`.

    Where several LMs share the calls (`balance`), the first to be asked is chosen by the place of the call, not by timing,
    so that a run can be repeated. The next LM is asked only after a ProviderError, or a reply that ended in a failure of
    the provider.
    """

    def __init__(self, declared: plan.LM, lm: LM, others: Mapping[str, LM]) -> None:
        self.lm, self.declared, self._others = lm, declared, others

    async def complete(self, request: Request) -> Completion:
        """Return the first reply, with the id of the LM that gave it (`lm`) and the errors of the LMs asked before it
        (`passed_over`, by id).

        Raises ProviderError with the messages of all of them where none gives a reply; one that ended in a failure of
        its provider is none. Other errors of an LM pass, and no further one is asked.
        """
        passed_over: dict[str, str] = {}
        for declared in self._order(request):
            lm = self.lm if declared is self.declared else self._others[declared.id]
            try:
                completion = await lm.complete(self._request(request, declared))
                if ending(completion.finish_reason) == "failed":
                    raise ProviderError(f"{declared.model} failed within its reply ({completion.finish_reason})")
            except ProviderError as error:
                passed_over[declared.id] = str(error)
                continue
            return replace(completion, lm=declared.id, passed_over=passed_over)
        raise ProviderError("; ".join(f"{id}: {said}" for id, said in passed_over.items()))

    def _order(self, request: Request) -> Sequence[plan.LM]:
        ring = (self.declared, *self.declared.balance)
        first = derive("balance", self.declared.id, request.seed, *request.key) % len(ring)
        return (*ring[first:], *ring[:first], *self.declared.fallback)

    def _request(self, request: Request, declared: plan.LM) -> Request:
        """Return the request with the parameters and the adapter of the LM that is asked (`declared`); the same request for
        the first.

        Parameters that a run or a module sets in the place of the declared ones stay.
        """
        if declared is self.declared:
            return request
        own = self.declared.params
        set_here = {name: value for name, value in request.params.items() if name not in own or own[name] != value}
        return replace(request, params={**declared.params, **set_here}, adapter=declared.adapter)


def routed(declared: plan.LM, lm: LM, other: Callable[[plan.LM], LM]) -> LM:
    """Return an LM that asks `lm`, and the LMs that its declaration names to answer in its place (`fallback`, `balance`).

    `other` makes one of these LMs from its declaration. Where there are none, `lm` itself is returned.
    """
    others = declared.answering[1:]
    return RoutedLM(declared, lm, {each.id: other(each) for each in others}) if others else lm
