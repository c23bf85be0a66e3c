"""The words of other tools for keys and functions of this language, and numbers with units, for the fixes of findings."""

from __future__ import annotations

import math
import re
from collections.abc import Container

KEYS: dict[str, tuple[str, ...]] = {
    "rpm": ("requests_per_minute",),
    "max_rpm": ("requests_per_minute",),
    "tpm": ("tokens_per_minute",),
    "max_tpm": ("tokens_per_minute",),
    "max_concurrency": ("concurrency", "max_parallel"),
    "max_workers": ("concurrency", "max_parallel"),
    "parallelism": ("concurrency", "max_parallel"),
    "max_retries": ("tries", "retry"),
    "num_retries": ("tries", "retry"),
    "retries": ("tries", "retry"),
    "attempts": ("tries", "retry"),
    "base_url": ("api_base", "url"),
    "endpoint": ("api_base", "url"),
    "address": ("api_base", "url"),
    "parameters": ("params", "inputs", "with"),
    "arguments": ("with", "args"),
    "context_window": ("context",),
    "max_context": ("context",),
    "fallbacks": ("fallback",),
    "description": ("about", "instructions"),
    "desc": ("about", "instructions"),
    "doc": ("about", "instructions"),
    "signature": ("inputs",),
    "system_prompt": ("instructions",),
    "instruction": ("instructions",),
    "examples": ("demos",),
    "few_shot": ("demos",),
    "shots": ("demos",),
    "llm": ("lm",),
    "max_iterations": ("max_turns", "at_most"),
    "max_iters": ("max_turns", "at_most"),
    "max_steps": ("max_turns", "at_most"),
    "if": ("when",),
    "condition": ("when",),
    "otherwise": ("else",),
    "depends_on": ("needs",),
    "after": ("needs",),
    "for_each": ("foreach",),
    "function": ("python",),
    "func": ("python",),
    "read_only": ("effects",),
    "top_k": ("k",),
    "documents": ("corpus",),
    "llms": ("lms",),
    "models": ("lms",),
    "signatures": ("modules",),
    "variables": ("vars",),
    "constants": ("vars",),
    "datasets": ("data",),
    "dataset": ("data",),
    "evals": ("metrics",),
    "optimizers": ("stages",),
    "expected": ("expect",),
}
"""Words of other tools -> the keys that mean the same here, of which a mapping has at most one."""
PARAMETERS = frozenset({"temperature", "max_tokens", "top_p", "top_k", "seed", "stop", "reasoning_effort"})
"""Parameters of requests that other tools have beside the name of the model."""
BOUNDS = frozenset(
    {
        "min", "max", "minimum", "maximum", "ge", "le", "gt", "lt", "least", "most", "range", "bounds", "pattern", "regex",
        "min_length", "max_length", "minLength", "maxLength", "min_items", "max_items", "minItems", "maxItems",
        "multiple_of", "multipleOf", "exclusiveMinimum", "exclusiveMaximum", "format",
    }
)  # fmt: skip
"""Keys by which a JSON schema, or a field of pydantic, bounds a value."""
FUNCTIONS = {
    "set": "unique(list): each value once, in order; subset(list, of) compares two lists",
    "frozenset": "unique(list): each value once, in order; subset(list, of) compares two lists",
    "issubset": "subset(list, of)",
    "contains": "x in list",
    "includes": "x in list",
    "has": "x in list",
    "map": "pluck(list of objects, 'field')",
    "filter": "compact(list), or a step with foreach and when",
    "list": "the list itself: expressions have no other sequences",
    "tuple": "[a, b]",
    "dict": "{'key': value}",
    "range": "repeat: at the step, which counts its turns in loop.index0",
    "enumerate": "loop.index0 in a step with foreach",
    "zip": "loop.index0 in a step with foreach, as index of the other list",
    "length": "len(x)",
    "size": "len(x)",
    "count": "len(x)",
    "mean": "sum(list) / len(list)",
    "avg": "sum(list) / len(list)",
    "average": "sum(list) / len(list)",
    "concat": "a + b, or join(list, separator)",
    "append": "list + [item]",
    "extend": "list + other",
    "format": "join([a, b], '')",
    "dumps": "json(x)",
    "tojson": "json(x)",
    "to_json": "json(x)",
    "trim": "strip(text)",
    "lowercase": "lower(text)",
    "uppercase": "upper(text)",
    "bool": "a comparison, such as x == 'yes'",
    "isinstance": "a type at the input or output, which is checked before anything runs",
    "mode": "most_common(list)",
    "majority": "most_common(list)",
    "coalesce": "default(optional, value instead)",
    "ifelse": "a if condition else b",
    "iif": "a if condition else b",
}
"""Functions of other languages -> what stands for them in an expression."""

_SECONDS = {
    "ms": 0.001, "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "mins": 60, "minute": 60,
    "minutes": 60, "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
_NUMBER = re.compile(r"\s*[$€£]?\s*(-?\d[\d_,]*(?:\.\d+)?)\s*([A-Za-z%]*)\s*")


def meant_key(key: str, known: Container[str]) -> str | None:
    """Return the key of `known` that a word of another tool means; None where there is none."""
    return next((name for name in KEYS.get(key, ()) if name in known), None)


def meant_number(text: str, about: str, whole: bool) -> str | None:
    """Return, as text, the number that a number in quotes, with a unit or with a mark of currency means; None for another text,
    and where a whole number is wanted and it is none.

    `about` describes the key: a time is given in the seconds or minutes that it names, and `k` and `M` count where it
    names neither.
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    comma = re.fullmatch(r"-?\d+,\d+", found[1]) and not re.fullmatch(r"-?[1-9]\d{0,2},\d{3}", found[1])  # as in 0,7
    number, unit = float(found[1].replace("_", "").replace(",", "." if comma else "")), found[2]
    of = 1 if "econds" in about else 60 if "inutes" in about else None
    if of is not None and unit.lower() in _SECONDS:
        number *= _SECONDS[unit.lower()] / of
    elif of is None and unit in ("k", "K", "M"):
        number *= 1_000_000 if unit == "M" else 1_000
    elif unit == "%":
        number /= 100
    if not math.isfinite(number) or (whole and number != int(number)):
        return None
    return str(int(number)) if number == int(number) else f"{number:g}"
