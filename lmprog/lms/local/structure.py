"""Models without values: their layers and shapes alone, on torch's device `meta`, which takes no memory for weights.

A process that trains a part of the weights and samples nothing (FSDP, beside the first process) loads models so, and gets
its part from the first process.
"""

from __future__ import annotations

import contextlib
from typing import Any

_alone = False


def only(alone: bool = True) -> None:
    """Have this process load models without values from now on, or with them again (`alone` False)."""
    global _alone
    _alone = alone


def alone() -> bool:
    """Return True if this process loads models without values."""
    return _alone


def structure_of(source: str, **options: Any) -> Any:
    """Return the model in the folder or repository `source` without values, made of its configuration alone (which is
    downloaded where it is not here); `options` are those of `from_pretrained`. Raises what transformers raises, as
    OSError where there is none.
    """
    import torch
    import transformers

    of = {"revision": options.pop("revision")} if "revision" in options else {}
    config = transformers.AutoConfig.from_pretrained(source, **of)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, **options)
    if model.can_generate():
        # The tokens that end a reply are the same in all processes: masks of constrained replies follow from them.
        with contextlib.suppress(OSError):
            model.generation_config = transformers.GenerationConfig.from_pretrained(source, **of)
    return model
