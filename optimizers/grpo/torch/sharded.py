"""The adapter in training on a copy of its model that the processes share (FSDP2, `torch.distributed.fsdp.fully_shard`).

1. Copy: the layers of the model are copied without their values (torch's device `meta`), so that no process holds the model
   twice, and divided among the processes: each decoder layer by itself, and what is around them. The first process then
   sends each process its part of the values.
2. Pass: the weights of a layer are gathered before it computes and dropped after it; so are its gradients, whose mean each
   process keeps for its own part. All processes make the same number of passes, or they would wait for each other.
3. Update: the optimizer changes the part of each process. The values of the adapter are then gathered into the whole model,
   which the first process samples and saves from, as where nothing is shared.

The copy computes with the layers of transformers and peft: the engine's joined weights would keep what FSDP drops.
Checkpoints hold whole values, so that a run goes on with any number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lmprog.optimizers import processes
from lmprog.optimizers.grpo.torch.trained import TrainedAdapters


class ShardedAdapters(TrainedAdapters):
    """An adapter in training, whose weights and those of its model are shared by all processes."""

    def __init__(self, model: Any, name: str, *, checkpoints: bool = False) -> None:
        """Divide a copy of the peft model `model`, in which the adapter `name` is trained, among all processes.

        It is called in all of them. In those beside the first the model may be without values.
        """
        super().__init__([(sharded(model), name)], checkpoints=checkpoints)
        self._whole = dict(model.named_parameters())

    def combine_gradients(self) -> None:
        """Do nothing: each backward pass has left the mean of the gradients."""

    def whole_weights(self) -> Mapping[str, Tensor]:
        return {name: whole(weight.detach()) for name, weight in self.trained_weights()}

    def set_weights(self, values: Mapping[str, Tensor]) -> None:
        for name, weight in self.trained_weights():
            weight.data.copy_(part(values[name], weight))
        self.updated()

    def updated(self) -> None:
        """Copy the values of the adapter into the whole model; called in all processes after each update."""
        for name, value in self.whole_weights().items():
            if processes.first():
                self._whole[name.removeprefix("models.0.")].data.copy_(value)

    def _is_fast(self, model: Any, name: str, context: Any) -> bool:
        return False


def sharded(model: Any) -> Any:
    """Return a copy of a peft model whose weights are divided among all processes, with the values that the first one has."""
    parameters = {id(each): _without_value(each) for each in model.parameters()}
    copy = deepcopy(model, parameters)
    base = copy.get_base_model()
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    kinds = set(base._no_split_modules or ())
    for layer in [each for each in base.modules() if type(each).__name__ in kinds]:
        fully_shard(layer, mesh=mesh)
    fully_shard(base, mesh=mesh)
    copy.to_empty(device=device)
    base.tie_weights()
    _fill(copy, model, mesh, device)
    return copy


def _without_value(parameter: Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)


def _fill(copy: Any, model: Any, mesh: DeviceMesh, device: torch.device) -> None:
    """Give the copy the values that `model` has in the first process."""
    values = dict(model.named_parameters())
    for name, own in copy.named_parameters():
        value = values[name].detach()
        value = value.to(device) if processes.first() else torch.empty(own.shape, dtype=own.dtype, device=device)
        own.data.copy_(distribute_tensor(value, mesh, own.placements))
    buffers = dict(model.named_buffers())
    for name, own in copy.named_buffers():
        if processes.first():
            own.copy_(buffers[name])
        torch.distributed.broadcast(own, src=0)


def whole(value: Any) -> Any:
    """Return a tensor whole that the processes share parts of, on every one; other values as they are."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def part(value: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a value that all processes have whole, divided as `like` is."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def whole_state(optimizer: Any) -> dict[str, Any]:
    """Return the state of an optimizer with whole tensors, as where nothing is shared; called in all processes."""
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
