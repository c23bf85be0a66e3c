"""A candidate: a proposed change to a program, of the words of its modules and the adapters on its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

Demo = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A proposed change to a program; what it does not name stays as it is.

    By module: `instructions`, `demos`, `layouts`, `module_adapters`, and in `nearest` the number of demos shown that are
    nearest to a call's inputs. By LM: `adapters` and trained `models`. `ensemble` makes one program of several.
    `program.with_candidate` applies it; the empty Candidate, START, changes nothing.
    """

    instructions: Mapping[str, str] = field(default_factory=dict)
    demos: Mapping[str, Sequence[Demo]] = field(default_factory=dict)
    adapters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Adapters by LM id: `path` (absolute), `sha256`, `base`, `base_sha256`."""
    layouts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Templates of `prompt` by module, one of `strategies.layouts`; no proposer writes them."""
    module_adapters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Adapters by module, in the form of `adapters`, for modules with an adapter of their own."""
    nearest: Mapping[str, int] = field(default_factory=dict)
    """Number of demos shown to a call, the nearest to its inputs, by module with demos here; without entry all."""
    ensemble: Mapping[str, Any] = field(default_factory=dict)
    """The block `ensemble` of an overlay: its rule, and the modules that each member changes; no other words beside it."""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Trained models by LM id, of providers or in a folder (`full: true`): `model`, and `trusted` where a provider's LM is."""

    def as_overlay(self) -> dict[str, Any]:
        """Return the change as the plain values of an overlay file: under `modules` by id `instructions`, `demos`,
        `prompt` and `adapter`, under `lms` by id `adapter` and the settings of a trained model, and `ensemble`; only
        what the change names."""
        modules: dict[str, dict[str, Any]] = {}
        for module, words in self.instructions.items():
            modules.setdefault(module, {})["instructions"] = words
        for module, demos in self.demos.items():
            rows = [dict(demo) for demo in demos]
            shown = self.nearest.get(module)
            modules.setdefault(module, {})["demos"] = rows if shown is None else {"nearest": shown, "of": rows}
        for module, templates in self.layouts.items():
            modules.setdefault(module, {})["prompt"] = dict(templates)
        for module, adapter in self.module_adapters.items():
            modules.setdefault(module, {})["adapter"] = dict(adapter)
        overlay: dict[str, Any] = {"modules": modules} if modules else {}
        lms: dict[str, dict[str, Any]] = {lm: {"adapter": dict(adapter)} for lm, adapter in self.adapters.items()}
        for lm, model in self.models.items():
            lms.setdefault(lm, {}).update(model)
        if lms:
            overlay["lms"] = lms
        if self.ensemble:
            overlay["ensemble"] = dict(self.ensemble)
        return overlay

    def then(self, later: Candidate) -> Candidate:
        """Return one change that has the effect of this one followed by `later`.

        An ensemble in `later` replaces the words of this one, since each of its members has words of its own; the
        weights of this one stay.
        """
        if later.ensemble:
            return replace(self.weights, ensemble=later.ensemble)
        return Candidate(
            {**self.instructions, **later.instructions},
            {**self.demos, **later.demos},
            {**self.adapters, **later.adapters},
            {**self.layouts, **later.layouts},
            {**self.module_adapters, **later.module_adapters},
            # Of a pool that is replaced the number goes with it.
            {**{id: count for id, count in self.nearest.items() if id not in later.demos}, **later.nearest},
            self.ensemble,
            {**self.models, **later.models},
        )

    @property
    def words(self) -> Candidate:
        """The same change without adapters and trained models: instructions, demos (with `nearest`), layouts, `ensemble`."""
        return replace(self, adapters={}, module_adapters={}, models={})

    @property
    def weights(self) -> Candidate:
        """The adapters and trained models of the change alone."""
        return Candidate(adapters=self.adapters, module_adapters=self.module_adapters, models=self.models)

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of a hash of the change, of an adapter by its path and its own digest; equal
        changes have equal digests."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True, default=str).encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """Return the change as a dictionary of plain values by field name (`instructions`, `demos`, ...), from which
        `from_json` makes it again; `ensemble` and `models` only where there are any."""
        return {
            "instructions": dict(self.instructions),
            "demos": {module: [dict(demo) for demo in demos] for module, demos in self.demos.items()},
            "adapters": {lm: dict(adapter) for lm, adapter in self.adapters.items()},
            "layouts": {module: dict(templates) for module, templates in self.layouts.items()},
            "module_adapters": {module: dict(adapter) for module, adapter in self.module_adapters.items()},
            "nearest": dict(self.nearest),
            **({"ensemble": dict(self.ensemble)} if self.ensemble else {}),
            **({"models": {lm: dict(model) for lm, model in self.models.items()}} if self.models else {}),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Candidate:
        """Return the change in a dictionary that `as_json` wrote. Fields that it lacks are empty; raises TypeError for
        one of another name."""
        return Candidate(**values)


START = Candidate()
"""No change: the program as a stage got it."""
