"""Adapters in training on the servers of vLLM that sample their rollouts. Imports no torch.

After each step whose weights are asked for they are written out, and the server is told to load them under a name that holds
their digest: a request can so never be answered by other weights than those that it names. The weights before are unloaded
first, since nothing asks for them any more: one place for an adapter on the server is enough, or 1 + `staleness` of them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmprog.compiler.plan import AdapterReference
from lmprog.errors import LmprogError, ProviderError
from lmprog.lms.api import ApiLM, api_lm
from lmprog.lms.local import LocalLM, local_lm, shared
from lmprog.optimizers.grpo.sampling.adapters import Adapter
from lmprog.optimizers.grpo.sampling.rollouts import Rollout
from lmprog.optimizers.grpo.sampling.token_check import drop_untrainable
from lmprog.runtime.program import Program

FAR = 0.1
"""The mean difference of a token's log-probability that kernels and number formats do not come to."""
UNLOAD_TIMEOUT = 5.0
"""Seconds in which a server drops an adapter, or is left alone: nothing depends on it, and the run may be ending."""
UNTRUNCATED_SAMPLING = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    # No schema is forced upon the reply: the loss is that of a free one.
    "response_format": {"type": "text"},
}
"""Parameters with which a server samples from the whole distribution, whatever the model's own settings there."""


class Served:
    """The adapters in training that vLLM servers sample, and their loading on the servers after each step.

    `folder` is for these adapters alone; `note` is called with a sentence for each problem.
    """

    def __init__(
        self,
        program: Program,
        adapters: Sequence[Adapter],
        folder: Path,
        note: Callable[[str], None],
        staleness: int = 0,
    ) -> None:
        self.adapters = tuple(adapter for adapter in adapters if not program.plan.lms[adapter.lm].runs_here)
        self.modules = frozenset(id for adapter in self.adapters for id in adapter.tuned)
        self._plan, self._lms, self._folder, self._note = program.plan, program.lms, folder, note
        self._staleness = staleness
        self._shown: dict[Adapter, AdapterReference] = {}
        self._older: list[tuple[Adapter, AdapterReference]] = []
        """Weights of earlier steps that requests may still name, the oldest first."""
        self._step: int | None = None
        self._warned = False

    def trained_lm(self, adapter: Adapter) -> LocalLM:
        """Return the local model whose weights are trained for an adapter: the LM itself, or a local copy of the model that
        a server serves.
        """
        if adapter not in self.adapters:
            return local_lm(self._lms[adapter.lm])
        model = self._plan.lms[adapter.lm].weights
        assert model is not None
        return shared(model)

    async def show(self, step: int, save: Callable[[Adapter, Path], None]) -> Mapping[Adapter, AdapterReference]:
        """Load the weights after `step` on the servers, and return the references by which requests name them, by
        adapter. Older weights are unloaded first, but for those of the last `staleness` steps. The second call for a
        step only returns the references.

        `save(adapter, folder)` writes an adapter into a folder. Raises ProviderError where a server does not load
        one.
        """
        if self._step == step:
            return self._shown
        if self._step is None:
            await self._drop(self._left_over())
        written = {adapter: self._written(adapter, step, save) for adapter in self.adapters}
        # A step without rows changes no weight.
        new = {
            adapter: reference
            for adapter, reference in written.items()
            if adapter not in self._shown or self._shown[adapter].sha256 != reference.sha256
        }
        await self._drop([entry for adapter in new for entry in self._surplus(adapter)])
        for adapter, reference in new.items():
            if adapter in self._shown:
                self._older.append((adapter, self._shown[adapter]))
            # Before it is loaded: a load that is cut by Ctrl-C may yet come to its end on the server.
            self._shown[adapter] = reference
            await self._load(adapter, reference, step)
        self._step = step
        return dict(self._shown)

    def drop_untrainable(
        self, rollouts: Sequence[Rollout], lms: Mapping[str, LocalLM]
    ) -> tuple[Sequence[Rollout], int]:
        """Drop the LM calls that cannot be trained; return the rollouts and the number of calls dropped, 0 where no server
        samples.

        A call can be trained where its server returned the reply's tokens and their log-probabilities, and these are tokens
        of the local model. `lms` are the LMs in training, by module. Raises LmprogError where calls were dropped and none
        can be trained.
        """
        readers = {id: lms[id] for id in self.modules}
        models = {id: lm.weights.model_name for id, lm in readers.items()}
        return drop_untrainable(rollouts, readers, models) if readers else (rollouts, 0)

    def untruncated(self, id: str) -> dict[str, Any]:
        """Return the parameters with which a server samples the module `id` without truncation (UNTRUNCATED_SAMPLING:
        `top_p`, `top_k`, `min_p`, penalties, no schema).

        Where the module's LM has an `extra_body`, it is among them, without the entries of these names and of `temperature`:
        a server would take them in place of the parameters.
        """
        over = self._plan.lms[self._plan.modules[id].lm].params.get("extra_body")
        if not isinstance(over, Mapping):
            return UNTRUNCATED_SAMPLING
        return {
            **UNTRUNCATED_SAMPLING,
            "extra_body": {
                name: value for name, value in over.items() if name not in (*UNTRUNCATED_SAMPLING, "temperature")
            },
        }

    def warn_on_mismatch(self, mismatch: float | None) -> None:
        """Warn once where `mismatch`, the mean difference of a token's log-probability on the servers from the local
        model's, is above FAR (0.1); None: not measured.
        """
        if mismatch is not None and mismatch > FAR and not self._warned:
            self._warned = True
            self._note(
                f"the server's log-probabilities differ by {mismatch:.2f} a token from those here, so that many tokens count "
                "little or are cut: it needs `--logprobs-mode processed_logprobs` at a temperature other than 1, and the same "
                "weights as `weights` names, not quantized"
            )

    async def close(self) -> None:
        """Unload the adapters from the servers and delete their files; a server that does not unload one is noted."""
        await self._drop([*self._older, *self._shown.items()])
        self._shown, self._older, self._step = {}, [], None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _surplus(self, adapter: Adapter) -> list[tuple[Adapter, AdapterReference]]:
        """Return the weights of an adapter that no request names once it is replaced: all but the newest `staleness`."""
        loaded = [entry for entry in self._older if entry[0] == adapter]
        loaded += [(adapter, self._shown[adapter])] if adapter in self._shown else []
        return loaded[: max(0, len(loaded) - self._staleness)]

    def _written(self, adapter: Adapter, step: int, save: Callable[[Adapter, Path], None]) -> AdapterReference:
        from lmprog.lms.local.weights import sha256_of

        folder = (self._folder / adapter.name / f"step-{step}").resolve()
        shutil.rmtree(folder, ignore_errors=True)
        save(adapter, folder)
        return AdapterReference(folder, sha256_of(folder))

    def _left_over(self) -> Iterator[tuple[Adapter, AdapterReference]]:
        """Yield the adapters that an earlier, killed process of the run has left on the servers."""
        from lmprog.lms.local.weights import sha256_of

        for adapter in self.adapters:
            for folder in sorted((self._folder / adapter.name).glob("step-*")):
                if (folder / "adapter_model.safetensors").is_file():
                    yield adapter, AdapterReference(folder.resolve(), sha256_of(folder))

    async def _load(self, adapter: Adapter, reference: AdapterReference, step: int) -> None:
        try:
            await self._lm(adapter).load(reference)
            return
        except ProviderError as error:
            said = str(error)
        del self._shown[adapter]
        raise ProviderError(
            f"the weights of {adapter.name!r} after step {step} are not on the server that samples: {said}"
        )

    async def _drop(self, dropped: Any) -> None:
        for adapter, reference in dropped:
            try:
                async with asyncio.timeout(UNLOAD_TIMEOUT):
                    await self._lm(adapter).unload(reference)
            except (LmprogError, TimeoutError) as error:
                why = str(error) or f"no reply within {UNLOAD_TIMEOUT:g} seconds"
                self._note(f"an adapter that is asked for no more is still on the server of {adapter.lm!r}: {why}")
            # Not before: an unload that is cut by Ctrl-C is asked once more by `close`.
            if self._shown.get(adapter) == reference:
                del self._shown[adapter]
            self._older = [entry for entry in self._older if entry != (adapter, reference)]
            shutil.rmtree(reference.path, ignore_errors=True)

    def _lm(self, adapter: Adapter) -> ApiLM:
        return api_lm(self._lms[adapter.lm])
