"""The policy: the program on the weights that are in training, in this process and on the servers that sample."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmprog.compiler.plan import AdapterReference
from lmprog.errors import UsageError
from lmprog.lms.digest import weights_of
from lmprog.lms.local import LocalLM
from lmprog.lms.local.whole import WholeInTraining
from lmprog.optimizers import processes
from lmprog.optimizers.grpo.math.training_rows import Constraint, Held, Row
from lmprog.optimizers.grpo.sampling.adapters import Adapter, adapters_of, in_training, trainable_whole
from lmprog.optimizers.grpo.sampling.served import Served
from lmprog.runtime.program import Program
from lmprog.seeds import derive

if TYPE_CHECKING:
    from lmprog.lms.local.weights import Weights
    from lmprog.optimizers.grpo.config import LoRA


class Policy:
    """The policy of a training: the program's plan, the local models whose weights are trained, and their adapters."""

    def __init__(
        self, program: Program, folder: Path, note: Callable[[str], None], staleness: int = 0, *, full: bool = False
    ) -> None:
        """Set up the policy; `folder` is that of the stage, and `note` is called with each problem of a server.

        Servers keep the weights of the last `staleness` steps beside those of now. With `full` all weights are trained, in
        a model of its own, in place of adapters. Raises UsageError where `full` is not tested (several models or adapters, a
        server, several processes without --fsdp), and LmprogError where there are no weights to train.
        """
        self.start = program
        """The program as the stage got it."""
        self.program = program
        """The program on the weights of now."""
        self.adapters = adapters_of(program.plan)
        self.served = Served(program, self.adapters, folder / "served", note, staleness)
        if full and processes.count() > 1 and not processes.shards():
            raise UsageError("`full: true` in several processes is tested with --fsdp alone: add it")
        self.lms = (
            {adapter: LocalLM(WholeInTraining(trainable_whole(adapter, program.plan))) for adapter in self.adapters}
            if full
            else {adapter: self.served.trained_lm(adapter) for adapter in self.adapters}
        )
        self._lms = {adapter.lm: lm for adapter, lm in self.lms.items()} if full else {}
        """With `full` the local models in training, by the id of the program's LM that each takes the place of; else empty."""
        self.trained: dict[Adapter, AdapterReference] = {}
        """The references by which requests name the local weights in training; empty before `training`."""
        self._answering: dict[Adapter, AdapterReference] = {}

    @cached_property
    def modules(self) -> frozenset[str]:
        """The ids of the modules whose weights are trained."""
        return frozenset(id for adapter in self.adapters for id in adapter.tuned)

    @cached_property
    def agents(self) -> frozenset[str]:
        """The ids of the modules in training that have tools."""
        return frozenset(id for id in self.modules if self.start.plan.modules[id].tools)

    @cached_property
    def lm_of(self) -> Mapping[str, LocalLM]:
        """The local model in training of each module."""
        return {id: self.lms[adapter] for adapter in self.adapters for id in adapter.tuned}

    @cached_property
    def place_of(self) -> Mapping[str, int]:
        """The index in `adapters` of each module's adapter."""
        return {id: place for place, adapter in enumerate(self.adapters) for id in adapter.tuned}

    @property
    def weights(self) -> Mapping[Adapter, Weights]:
        """The local model of each adapter in training; several adapters may share one."""
        return {adapter: lm.weights for adapter, lm in self.lms.items()}

    @contextmanager
    def training(self, options: LoRA, seed: int) -> Iterator[None]:
        """Return a context with an adapter in training for each of `adapters`, which `program` uses inside the block; they
        are removed at its end.

        An adapter begins as a copy of the one that the program has (`start`), else it is shaped by `options` with initial
        values drawn by the seed. With `full` there are no adapters: the models' own weights are in training.
        """
        import peft
        import torch

        lora = peft.LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            target_modules=options.targets,
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        )
        torch.manual_seed(derive(seed, "adapter") % 2**32)
        try:
            for adapter, weights in self.weights.items():
                self.trained[adapter] = weights.begin_training(lora, start=adapter.start)
            self._answering, self.program = dict(self.trained), in_training(self.start, self.trained)
            if self._lms:
                self.program = replace(self.program, lms={**self.program.lms, **self._lms})
            yield
        finally:
            self.program = self.start
            for weights in self.weights.values():
                weights.end_training()

    def memory(self) -> Mapping[str, float]:
        """Return megabytes by name (`now`, `peak`, `weights`, `packed`, `heads`) of this process and of the models in
        training, as `lmprog.lms.local.memory.memory_of`."""
        from lmprog.lms.local.memory import memory_of

        return memory_of(self.lms.values())

    def stepped(self) -> None:
        """Record that the weights have changed, so that copies and cached keys of before are not used; called after each
        update."""
        for weights in set(self.weights.values()):
            weights.trained_step()

    @property
    def answering(self) -> frozenset[str]:
        """The names of the weights in training that the program uses now (`Invocation.weights`); empty before
        `training`."""
        return frozenset(weights_of(self.start.plan.lms[a.lm].base, ref) for a, ref in self._answering.items())

    async def show(self, step: int) -> None:
        """Write the present weights, those after `step`, to files, load them on the vLLM servers that sample, and make
        `program` name them there; older ones are unloaded, but for those of the last `staleness` steps; do nothing
        where all weights in training are sampled in this process, which uses the present ones anyway.

        Raises ProviderError where a server does not load them.
        """
        if not self.served.adapters:
            return
        shown = {**self.trained, **await self.served.show(step, self._write)}
        if shown != self._answering:
            self._answering, self.program = shown, in_training(self.start, shown)

    async def close(self) -> None:
        """Unload the adapters in training from vLLM servers, and delete their files; a server that does not unload one
        is noted. Do nothing where no server samples."""
        if self.served.adapters:
            await self.served.close()

    def save(self, folder: Path) -> None:
        """Write the present adapters (with `full` the models) into `folder`, each in a folder of the adapter's name; what
        `folder` held is deleted."""
        shutil.rmtree(folder, ignore_errors=True)
        for adapter in self.adapters:
            self._write(adapter, folder / adapter.name)

    def _write(self, adapter: Adapter, folder: Path) -> None:
        self.lms[adapter].weights.save_trained(self.trained[adapter], folder)

    def params(self, temperature_of: Callable[[str], float]) -> dict[str, dict[str, Any]]:
        """Return by module the sampling parameters of rollouts: the `temperature` that `temperature_of` returns, and
        the values of `top_p`, `top_k` (and others, on a server) that switch truncation off.

        The loss is that of the whole distribution, so none of it may be cut off.
        """
        here = {"top_p": 1.0, "top_k": 0}
        return {
            id: {
                "temperature": temperature_of(id),
                **(self.served.untruncated(id) if id in self.served.modules else here),
            }
            for id in self.modules
        }

    def constraint(self, made: Held) -> Constraint | None:
        """Return the grammar (format and types) under which the reply of a call was sampled; None for one that was
        sampled freely. `made` is the record of the call."""
        if not made.constrained:
            return None
        module = self.program.plan.modules[made.module]
        return module.format, self.program.resources.module(module, self.program.plan).output_type

    def allowed(self, row: Row) -> Any:
        """Return, for each of the T tokens of a row's constrained reply, the packed mask of the tokens that the grammar
        allowed there: (T, W) words with a bit for each token of the vocabulary. The row must have a `constraint`."""
        assert row.constraint is not None
        return self.lms[self.adapters[row.adapter]].allowed(*row.constraint, row.reply_ids)
