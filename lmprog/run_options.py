"""How rows are run, beyond what the program says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmprog.events import CallEnded, TextPiece
from lmprog.lms.lm import Completion, Request


@dataclass(frozen=True)
class RunOptions:
    """How rows are run, beyond what the program says."""

    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    """Laid over the `params` of all modules."""
    module_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Laid over those, by module of the program; those of a sub-program are others."""
    retry: bool = True
    """False: a reply that cannot be read fails at once, as in rollouts for training."""
    rollout: int = 0
    on_text: Callable[[TextPiece], None] | None = None
    """Told of each piece of a reply as it comes, where the LM can stream; perhaps from another thread."""
    on_record: Callable[[CallEnded], None] | None = None
    """Told of each call of an LM or tool when it has ended."""
    before_write: Callable[[int | str], None] | None = None
    """Called with the run's `example` before each call of a tool that writes; where it raises, the tool is not called."""
    replay: Callable[[Request], Completion | None] | None = None
    """Asked before an LM for each reply; what it has none for is sent. Judges are not replayed."""


AS_IT_IS = RunOptions()
