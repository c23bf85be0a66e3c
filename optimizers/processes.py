"""Several processes of one optimization (`torchrun`, `accelerate launch`).

The first alone runs the program, and sends the others their work: one process talks to LMs and judges, keeps the budget, and
writes journal and overlay. The others join where weights are trained, and share the passes through the network; with FSDP
they share the weights of the network too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from lmprog.errors import InfrastructureError, UsageError

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
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor, context or pipeline parallelism",
}
"""The variables by which `accelerate launch` asks for ways of training that no test of lmprog trains with."""
FSDP = "ACCELERATE_USE_FSDP"
"""The variable by which `accelerate launch` asks for FSDP."""
UNREAD = {
    "FSDP_OFFLOAD_PARAMS": "set it to false: weights in the memory of the processor are not tested",
    "FSDP_ACTIVATION_CHECKPOINTING": "set it to false, and write gradient_checkpointing: true in the stage that trains",
}
"""Settings of accelerate's FSDP that would have no effect, with the way out of each."""

_OF_A_LOST_PROCESS = ("gloo/transport", "NCCL")
"""The words of a RuntimeError of torch where another process has closed its connections."""

ENDED = "another process of this optimization has ended before its work was done; its own message says why"
_others_wait = True
"""False while all processes take part in a piece of work, so that their next collective is not `from_first`."""


class _Failed:
    """The value that the first process broadcasts in place of another where an error ends it."""


_shards = False
_store: Any = None
"""The store of torch in which processes find each other; None until a first optimization in several processes."""
_joined = 0
"""The number of optimizations so far in which this process was one of several; all processes count alike."""
_launched: str | None = None
"""The value of `accelerate launch`'s variable for FSDP, between `begin`, which removes it, and `end`."""


def refuse_untested() -> None:
    """Raise UsageError where `accelerate launch` was told to train in a way that is not tested, or by a setting of FSDP that
    would have no effect."""
    for name, way in UNTESTED.items():
        if _asks(name):
            raise UsageError(
                f"{name} asks for {way}, which lmprog is not tested with: processes share the rows of a step, and with "
                "--fsdp the weights; start it with torchrun, or with an accelerate config that asks for MULTI_GPU or "
                "FSDP of version 2 alone"
            )
    if not _asks(FSDP):
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UsageError("accelerate asks for FSDP of version 1, which lmprog does not have: add --fsdp_version 2")
    for name, fix in UNREAD.items():
        if _asks(name):
            raise UsageError(f"{name} is not read by lmprog: {fix}")


def _asks(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes")


@contextmanager
def together(fsdp: bool = False) -> Iterator[None]:
    """Return a context in which the processes are joined (`begin`), which they leave however it ends.

    Where an error ends the block in the first process while the others wait for it, the block ends in them too, with
    InfrastructureError; so it does where the connection to another process is lost.
    """
    begin(fsdp)
    try:
        yield
    except BaseException as error:
        if count() > 1 and first() and _others_wait:
            with suppress(RuntimeError):  # they may be gone as well
                from_first(_Failed())
        if count() > 1 and isinstance(error, RuntimeError) and any(words in str(error) for words in _OF_A_LOST_PROCESS):
            raise InfrastructureError(ENDED) from error
        raise
    finally:
        end()


@contextmanager
def others_wait(waiting: bool) -> Iterator[None]:
    """Return a context that notes for `together` what the other processes do during a piece of work of the first: wait
    for a value of it (`from_first`), or, where `waiting` is False, take part in the work. Only others that wait are
    sent the end of the first process by an error.
    """
    global _others_wait
    before, _others_wait = _others_wait, waiting
    yield
    _others_wait = before  # not after an error: `together` reads what held where it was raised


def begin(fsdp: bool = False) -> None:
    """Join torch's process group, before transformers does so with a shorter timeout; where there is one process, only
    refuse what is not tested. Called once in each process before an optimization, `end` after it (`together`).

    With `fsdp`, or where `accelerate launch` asks for it, the processes share the weights in training; those beside the
    first then load models without values, so call this before a model is loaded. Raises UsageError for a way of training
    with several processes that is not tested, and for FSDP in one process.
    """
    global _shards, _launched, _others_wait
    refuse_untested()
    fsdp = fsdp or _asks(FSDP)
    if fsdp and count() == 1:
        raise UsageError(
            "FSDP shares weights among processes, and there is one: start several, as with "
            "`torchrun --no-python --nproc-per-node 2 lmprog optimize SPEC --fsdp`"
        )
    _shards, _others_wait = fsdp, True
    # The weights are divided here: accelerate and transformers would do it again.
    _launched = os.environ.pop(FSDP, None)
    if count() > 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(
            backend,
            store=_own_store(),
            rank=int(os.environ["RANK"]),
            world_size=count(),
            timeout=FIRST_PROCESS_TIMEOUT,
        )
        if _shards and not first():
            from lmprog.lms.local import structure

            structure.only()


def _own_store() -> Any:
    """Return the store in which the processes of the next optimization find each other: a part of its own in the store of
    all of them. In a common part the second optimization of a process would find the addresses of the first, whose
    connections are closed, and one process would wait for the other for ever.
    """
    global _store, _joined
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if _store is None:
        # Kept, since its server ends with it, and another process might still find the old one.
        _store, _, _ = next(rendezvous("env://", timeout=FIRST_PROCESS_TIMEOUT))
    _joined += 1
    return PrefixStore(f"lmprog/{_joined}", _store)


def shards() -> bool:
    """Return True if the processes share the weights in training (FSDP)."""
    return _shards


def from_first(value: Any = None) -> Any:
    """Return in every process the value that the first process passes, and wait for it there; the argument of the others is
    ignored. Must be called in all processes; the value is pickled, but where there is one process. Raises
    InfrastructureError in the others where an error has ended the first one.
    """
    if count() == 1:
        return value
    import torch

    values = [value]
    torch.distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    if isinstance(values[0], _Failed) and not first():
        raise InfrastructureError(ENDED)
    return values[0]


def end() -> None:
    """Leave torch's process group, where there are several processes; from then on models are loaded with their values
    again, and the variable ACCELERATE_USE_FSDP, which `begin` has removed, is set again."""
    global _shards, _launched
    _shards = False
    if _launched is not None:
        os.environ[FSDP], _launched = _launched, None
    if count() > 1:
        import torch

        from lmprog.lms.local import structure

        torch.distributed.destroy_process_group()
        structure.only(False)
