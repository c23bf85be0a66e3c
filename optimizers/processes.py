"""Several processes of one optimization (`torchrun`, `accelerate launch`).

The first alone runs the program, and sends the others their work: one process talks to LMs and judges, keeps the budget, and
writes journal and overlay. The others join where weights are trained, and share the passes through the network.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from lmprog.errors import UsageError

FIRST_PROCESS_TIMEOUT = timedelta(days=7)
"""Time limit for waiting on the first process, which may search for prompts all day."""


def count() -> int:
    """Return the number of processes, 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def first() -> bool:
    """Return True in the first process of a torchrun, and where there is only one process."""
    return count() == 1 or os.environ["RANK"] == "0"


UNTESTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor, context or pipeline parallelism",
}
"""The variables by which `accelerate launch` asks for ways of training that no test of lmprog trains with."""


def refuse_untested() -> None:
    """Raise UsageError where `accelerate launch` was told to train in a way that is not tested."""
    for name, way in UNTESTED.items():
        if os.environ.get(name, "").lower() in ("1", "true", "yes"):
            raise UsageError(
                f"{name} asks for {way}, which lmprog is not tested with: each process holds the whole model, and they share "
                "the rows of a step; start it with torchrun, or with an accelerate config that asks for MULTI_GPU alone"
            )


def begin() -> None:
    """Join torch's process group, before transformers does so with a shorter timeout; refuse what is not tested. Raises
    UsageError for a way of training with several processes that is not tested."""
    refuse_untested()
    if count() > 1:
        import torch

        backend = "cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=FIRST_PROCESS_TIMEOUT)


def from_first(value: Any = None) -> Any:
    """Return in every process the value that the first process passes; the argument of the others is ignored."""
    if count() == 1:
        return value
    import torch

    values = [value]
    torch.distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def end() -> None:
    """Leave torch's process group."""
    if count() > 1:
        import torch

        torch.distributed.destroy_process_group()
