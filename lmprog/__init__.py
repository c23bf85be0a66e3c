"""Programs made of language-model calls, in one YAML file: checked, traced, and optimized in prompts and weights.

Importing this package imports nothing heavy: neither torch nor litellm nor transformers, and its own parts when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lmprog.version import __version__

if TYPE_CHECKING:
    from lmprog.compiler.findings.finding import SpecError
    from lmprog.errors import BudgetExceeded, InfrastructureError, LmprogError, ProviderError, ReplayMiss, UsageError
    from lmprog.lms.lm import LM, Completion, Request, Usage
    from lmprog.optimizers.run import Tuned, optimize
    from lmprog.runtime.program import Program, load
    from lmprog.runtime.result import Result, RunError
    from lmprog.scoring.evaluation import Scores, evaluate
    from lmprog.scoring.metrics import Score
    from lmprog.traces.record import Invocation

_HOME = {
    "BudgetExceeded": "errors",
    "Completion": "lms.lm",
    "InfrastructureError": "errors",
    "Invocation": "traces.record",
    "LM": "lms.lm",
    "LmprogError": "errors",
    "Program": "runtime.program",
    "ProviderError": "errors",
    "ReplayMiss": "errors",
    "Request": "lms.lm",
    "Result": "runtime.program",
    "RunError": "runtime.program",
    "Score": "scoring.metrics",
    "Scores": "scoring.evaluation",
    "SpecError": "compiler.findings.finding",
    "Tuned": "optimizers.run",
    "Usage": "lms.lm",
    "UsageError": "errors",
    "evaluate": "scoring.evaluation",
    "load": "runtime.program",
    "optimize": "optimizers.run",
}

__all__ = [
    "LM",
    "BudgetExceeded",
    "Completion",
    "InfrastructureError",
    "Invocation",
    "LmprogError",
    "Program",
    "ProviderError",
    "ReplayMiss",
    "Request",
    "Result",
    "RunError",
    "Score",
    "Scores",
    "SpecError",
    "Tuned",
    "Usage",
    "UsageError",
    "__version__",
    "evaluate",
    "load",
    "optimize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lmprog' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lmprog.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
