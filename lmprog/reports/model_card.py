"""The model card of a tuned adapter: what it was tuned from, how, and what it scored. No value of a row stands in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lmprog.boundary.terminal import printable
from lmprog.compiler.hub import parse
from lmprog.compiler.plan import Plan
from lmprog.lms.merging import Merge
from lmprog.scoring.statistics import Estimate
from lmprog.version import __version__

EMBEDDED = {"embedded/smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""The repository on the Hub of each model that lmprog brings."""


@dataclass(frozen=True)
class Tuning:
    """The facts of an adapter that its model card states: the program's plan, the adapter with its base model and
    modules (`merge`), the SHA-256 of its weights, the number of train rows (None: they are not at hand), and the id of
    the license (None: none is named)."""

    plan: Plan
    merge: Merge
    sha256: str
    train: int | None
    """Rows of the train split; None where they are not at hand."""
    license: str | None

    @property
    def base(self) -> str | None:
        """The repository of the base model on the Hub; None where the model is a folder, or not one of `hf/`."""
        name = self.merge.model
        if name in EMBEDDED:
            return EMBEDDED[name]
        found = parse(name.partition("/")[2]) if name.startswith("hf/") else None
        return found.repository if found is not None and "/" in found.repository else None

    @property
    def base_name(self) -> str:
        """The name of the base model for readers; of a folder only the last part, since the rest is a path of the author's
        machine.
        """
        return self.base or self.merge.model.rstrip("/").rpartition("/")[2]


def card(tuning: Tuning) -> str:
    """Return the model card as Markdown, with the Hub's fields as YAML at its head."""
    return "\n".join(_lines(tuning)) + "\n"


def _head(tuning: Tuning) -> dict[str, Any]:
    """Return the fields at the head of the card that the Hub reads."""
    return {
        **({"base_model": tuning.base, "base_model_relation": "adapter"} if tuning.base is not None else {}),
        **({"license": tuning.license} if tuning.license is not None else {}),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lmprog", "lora"],
    }


def _lines(tuning: Tuning) -> Iterator[str]:
    """Yield the lines of the card."""
    plan, merge = tuning.plan, tuning.merge
    tuned: Mapping[str, Any] = plan.tuned or {}
    yield "---"
    yield yaml.safe_dump(_head(tuning), sort_keys=False).strip()
    yield "---"
    yield ""
    yield f"# {_text(plan.name)}: LoRA adapter of {_text(merge.name)}"
    yield ""
    yield (
        f"A LoRA adapter for {_text(tuning.base_name)}, tuned with lmprog {__version__} for the program "
        f"{_text(plan.name)}. It is meant for the prompts of its modules {', '.join(map(_text, merge.modules))}."
    )
    yield ""
    yield "## What it was tuned from"
    yield ""
    yield from _table(
        ("base model", tuning.base_name),
        ("its weights (sha256)", merge.adapter.base_sha256),
        ("adapter_model.safetensors (sha256)", tuning.sha256),
        ("stages", ", ".join(map(str, tuned.get("stages") or ())) or None),
        ("seed", tuned.get("seed")),
        ("rows to learn from", tuning.train),
        ("dev rows that choose", _of(tuned, "accepted", "choose")),
        ("dev rows that confirm", _of(tuned, "accepted", "confirm")),
        ("test rows", _of(tuned, "test", "n")),
    )
    yield from _scores(tuned)
    yield "## Licence"
    yield ""
    if tuning.license is not None:
        yield f"{_text(tuning.license)}. The base model has a licence of its own."
    else:
        yield "Not stated. The base model has a licence of its own, which holds for its weights."


def _scores(tuned: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines on the scores that `tuned`, the block of an overlay with the results of its tuning, has."""
    test = tuned.get("test")
    yield "## Scores"
    yield ""
    if isinstance(test, Mapping):
        yield f"Mean of the metric {_text(str(test['metric']))} on {test['n']} test rows that no choice was made by:"
        yield ""
        yield from _table(
            ("before", str(Estimate.from_json(test["before"]))),
            ("after", str(Estimate.from_json(test["after"]))),
            ("difference, paired", _points(test["difference"])),
        )
    else:
        yield "It was not scored on test rows."
        yield ""
    stages = tuned.get("scores")
    if isinstance(stages, Mapping) and stages:
        yield "On the dev rows that the stages chose by, after each stage:"
        yield ""
        yield from _table(*((stage, str(Estimate.from_json(score))) for stage, score in stages.items()))
    verdict = _of(tuned, "accepted", "verdict")
    if isinstance(verdict, str):
        yield f"What was kept: {_text(verdict)}."
        yield ""
    yield "Intervals are of 95%."
    yield ""


def _table(*rows: tuple[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of names and values, without rows whose value is None."""
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {_text(name)} | {_text(str(value))} |" for name, value in rows if value is not None)
    yield ""


def _text(text: str) -> str:
    """Return a text on one line in which nothing is read as Markdown or HTML."""
    written = " ".join(printable(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]#|~!])", r"\\\1", written)


def _points(difference: Mapping[str, Any]) -> str:
    """Return a difference (`mean`, `ci95`) in percentage points with its interval."""
    low, high = difference["ci95"]
    return f"{100 * difference['mean']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def _of(tuned: Mapping[str, Any], *path: str) -> Any:
    """Return the value at a path of keys; None where there is none."""
    found: Any = tuned
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
