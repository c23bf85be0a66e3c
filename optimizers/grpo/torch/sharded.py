"""Training on a copy of a model that the processes share (FSDP2, `torch.distributed.fsdp.fully_shard`), or of all its weights.

1. Copy: the layers of the model are copied without their values (torch's device `meta`), so that no process holds the model
   twice, and divided among the processes: each decoder layer by itself, and what is around them. The first process then
   sends each process its part of the values.
2. Pass: the weights of a layer are gathered before it computes and dropped after it; so are its gradients, whose mean each
   process keeps for its own part. All processes make the same number of passes, or they would wait for each other.
3. Update: the optimizer changes the part of each process. The trained values are then gathered into the model itself, which
   the first process samples and saves from, as where nothing is shared.

The copy computes with the layers of transformers and peft: the engine's joined weights would keep what FSDP drops.
Checkpoints hold whole values, so that a run goes on with any number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lmprog.optimizers import processes
from lmprog.optimizers.grpo.torch.trained import TrainedAdapters, recomputed


class TrainedCopy(TrainedAdapters):
    """A copy of a model in training: of an adapter on it, or of all its weights; the model itself follows after each
    update, and is sampled from.

    All weights are trained in fp32, whatever the number format of the model: an update is often less than bf16 can add.
    """

    def __init__(self, model: Any, name: str, *, shares: bool, checkpoints: bool = False) -> None:
        """Copy `model` for training: the peft model with the adapter `name`, or, where `name` is empty, a model of
        transformers, all of whose weights are trained.

        With `shares` the copy is divided among all processes, and this is called in all of them; in those beside the
        first the model may be without values.
        """
        self.shares = shares
        self._all = not name
        # The copy of an adapter is one that processes share: alone it is trained where it is.
        copy = sharded(model, name) if shares else deepcopy(model).float()
        super().__init__([(copy, name)], checkpoints=checkpoints)
        self._whole = dict(model.named_parameters())

    def forward(self, adapter: int, *, reference: bool = False, **inputs: Any) -> Any:
        """Return the model's output, as `TrainedAdapters` does; of a model whose weights are all trained there is no
        reference, and none may be asked for.
        """
        if not self._all:
            return super().forward(adapter, reference=reference, **inputs)
        assert not reference  # `beta` beside `full` is refused
        model = self.peft_model(adapter)
        with recomputed(model) if self._checkpoints else nullcontext():
            return model(**inputs)

    def combine_gradients(self) -> None:
        """Do nothing: each backward pass has left the mean of the gradients."""

    def whole_weights(self) -> Mapping[str, Tensor]:
        """Return the values of the weights in training by name, whole and in main memory, in the first process; an empty
        mapping in the others. Called in all processes."""
        found = {}
        for name, weight in self.trained_weights():
            value = whole(weight.detach())
            if processes.first():  # one at a time on its device, since all together may not fit there
                found[name] = value.cpu()
        return found

    def set_weights(self, values: Mapping[str, Tensor]) -> None:
        """Set the weights in training to `values`, whole ones that all processes have, and copy them into the model that is
        sampled from."""
        for name, weight in self.trained_weights():
            weight.data.copy_(part(values[name], weight))
        self.updated()

    def updated(self) -> None:
        """Copy the trained values into the model that is sampled from; called in all processes after each update."""
        with torch.no_grad():
            for name, weight in self.trained_weights():
                value = whole(weight.detach())
                if processes.first():
                    # By an operation that counts as a change of the weight: copies in other memory orders follow it.
                    self._whole[name.removeprefix("models.0.")].copy_(value)

    def _is_fast(self, model: Any, name: str, context: Any) -> bool:
        return False

    def _let_learn(self) -> None:
        if not self._all:
            super()._let_learn()
        else:
            self.models.requires_grad_(True)


def sharded(model: Any, name: str) -> Any:
    """Return a copy of a peft model with its adapter `name` alone, whose weights are divided among all processes, with
    the values that the first one has; called in all of them.

    Where `name` is empty it is a model of transformers; the copy's weights are then in fp32, and are gathered in the number
    format of the model.
    """
    in_full = not name
    kind = torch.float32 if in_full else None
    copy = deepcopy(model, {id(each): _without_value(each, kind) for each in model.parameters()})
    # The first process has loaded further adapters, to answer with; all must divide the same weights.
    for other in [] if in_full else [each for each in copy.peft_config if each != name]:
        copy.delete_adapter(other)
    base = copy if in_full else copy.get_base_model()
    policy = MixedPrecisionPolicy()
    if in_full and model.dtype != torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=model.dtype, reduce_dtype=torch.float32)
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    kinds = set(base._no_split_modules or ())
    for layer in [each for each in base.modules() if type(each).__name__ in kinds]:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(base, mesh=mesh, mp_policy=policy)
    copy.to_empty(device=device)
    base.tie_weights()
    _fill(copy, model, mesh, device)
    return copy


def _without_value(parameter: Tensor, kind: torch.dtype | None) -> torch.nn.Parameter:
    empty = torch.empty_like(parameter, device="meta", dtype=kind)
    return torch.nn.Parameter(empty, requires_grad=parameter.requires_grad)


def _fill(copy: Any, model: Any, mesh: DeviceMesh, device: torch.device) -> None:
    """Give the copy the values that `model` has in the first process."""
    values = dict(model.named_parameters())
    for name, own in copy.named_parameters():
        value = values[name].detach()
        value = (
            value.to(device, own.dtype) if processes.first() else torch.empty(own.shape, dtype=own.dtype, device=device)
        )
        own.data.copy_(distribute_tensor(value, mesh, own.placements))
    buffers = dict(model.named_buffers())
    for name, own in copy.named_buffers():
        if processes.first():
            own.copy_(buffers[name])
        torch.distributed.broadcast(own, src=0)


def whole(value: Any) -> Any:
    """Return a tensor whole that the processes share parts of, in every process; called in all of them. Other values are
    returned as they are."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def part(value: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a value that all processes have whole, divided as `like` is; the value itself where
    `like` is not shared."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def whole_state(optimizer: Any) -> dict[str, Any]:
    """Return the state of an optimizer with whole tensors in main memory, as where nothing is shared; called in all
    processes, and returned in each."""
    state: dict[str, Any] = optimizer.state_dict()
    moments = {
        place: {name: whole(value).cpu() if isinstance(value, Tensor) else value for name, value in own.items()}
        for place, own in state["state"].items()
    }
    return {**state, "state": moments}


def takes_whole_state(optimizer: Any) -> None:
    """Have an optimizer of shared weights load states as `whole_state` returns them."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]

    def divided(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        moments = {
            place: {
                name: part(value, weights[place]) if value.shape == weights[place].shape else value
                for name, value in own.items()
            }
            for place, own in state["state"].items()
        }
        return {**state, "state": moments}

    optimizer.register_load_state_dict_pre_hook(divided)
