"""`lmprog diff`: a comparison of two programs by what an optimizer may change, and by their scores."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from lmprog.compiler.plan import Module, Plan
from lmprog.compiler.yaml.writer import dump, unwritable


def difference(old: Plan, new: Plan) -> str:
    """Return a unified diff, from `old` to `new`, of what an optimizer may change in a program (models with parameters and
    adapters, the members and rule of an ensemble, prompts, instructions, demos) and of the scores under `tuned`; empty
    where these are equal."""
    parts: list[str] = []
    for id in dict.fromkeys([*old.lms, *new.lms]):
        parts += _lines(f"lms.{id}", _lm(old, id), _lm(new, id))
    parts += _lines("ensemble", _rule(old), _rule(new))
    for number in range(max(len(old.members), len(new.members), 1)):
        member = number if old.members or new.members else None
        parts += _modules(_member(old, number), _member(new, number), member)
    for key in ("scores", "test"):
        parts += _lines(f"tuned.{key}", _scores(old, key), _scores(new, key))
    return "".join(f"{part}\n" for part in parts)


def _modules(old: Plan, new: Plan, member: int | None) -> list[str]:
    """Return the lines of the differences of the modules of two programs, or of two members of ensembles by their number
    `member` (None: the programs are no ensembles)."""
    within = "modules" if member is None else f"ensemble.members[{member}]"
    parts: list[str] = []
    for id in dict.fromkeys([*old.modules, *new.modules]):
        name, before, after = f"{within}.{id}", old.modules.get(id), new.modules.get(id)
        parts += _lines(f"{name}.prompt", _layout(before), _layout(after))
        parts += words_difference(name, _words(before), _words(after))
        parts += _lines(f"{name}.nearest", _nearest(before), _nearest(after))
        parts += _lines(f"{name}.adapter", _adapter(before), _adapter(after))
    return parts


def _member(plan: Plan, number: int) -> Plan:
    """Return the member of an ensemble with this number (from 0), its first member where there are fewer, or the program
    itself where it is no ensemble."""
    return plan.members[number] if number < len(plan.members) else next(iter(plan.members), plan)


def _rule(plan: Plan) -> list[str]:
    """Return the number of members of an ensemble and its rule, as lines of text; none for another program."""
    written = plan.meaning.get("ensemble")
    if not plan.members or written is None:
        return []
    return [f"members: {len(plan.members)}", *(f"{key}: {written[key]}" for key in ("vote", "judge") if key in written)]


Words = tuple[str, Sequence[Mapping[str, Any]]]
"""The instructions and demos of a module."""


def words_difference(module: str, before: Words, after: Words) -> list[str]:
    """Return the lines of a unified diff, without line ends, from the instructions and demos `before` to those `after`;
    empty if equal. `module` is the module's name in the diff."""
    paths = f"{module}.instructions", f"{module}.demos"
    old, new = ((text.splitlines(), [*_demos(demos)]) for text, demos in (before, after))
    return [*_lines(paths[0], old[0], new[0]), *_lines(paths[1], old[1], new[1])]


def _demos(demos: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for demo in demos:
        yield from _demo(_json(dict(demo)))


@lru_cache(4096)
def _demo(written: str) -> tuple[str, ...]:
    """Return the lines of a demo as YAML, field by field; its JSON in one line where no YAML file can hold it."""
    demo = json.loads(written)
    if not demo or unwritable(demo) is not None:
        return (written,)
    first, *more = dump(demo).splitlines()
    return (f"- {first}", *(f"  {line}" if line else "" for line in more))


def layout_difference(module: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the lines of a unified diff, without line ends, from the layout `before` to the layout `after`, each given
    as templates by role; empty if equal. `module` is the module's name in the diff.
    """
    return _lines(f"{module}.prompt", _by_role(before), _by_role(after))


def _by_role(templates: Mapping[str, str]) -> list[str]:
    return [line for role, text in templates.items() for line in [f"{role}:", *text.splitlines()]]


def _lines(name: str, before: list[str], after: list[str]) -> list[str]:
    return list(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm="", n=2))


def _lm(plan: Plan, id: str) -> list[str]:
    lm = plan.lms.get(id)
    if lm is None:
        return []
    adapter = [f"adapter: {lm.adapter.path} {lm.adapter.sha256 or ''}".rstrip()] if lm.adapter is not None else []
    return [f"model: {lm.model}", f"params: {_json(dict(lm.params))}", *adapter]


def _layout(module: Module | None) -> list[str]:
    if module is None:
        return []
    roles = [("system", module.layout.system), ("user", module.layout.user), ("assistant", module.layout.assistant)]
    return _by_role({role: part.text for role, part in roles if part is not None})


def _words(module: Module | None) -> Words:
    return (module.instructions or "", module.demos) if module is not None else ("", ())


def _nearest(module: Module | None) -> list[str]:
    return [] if module is None or module.nearest is None else [str(module.nearest)]


def _adapter(module: Module | None) -> list[str]:
    if module is None or module.adapter is None:
        return []
    return [f"{module.adapter.path} {module.adapter.sha256 or ''}".rstrip()]


def _scores(plan: Plan, key: str) -> list[str]:
    scores = (plan.tuned or {}).get(key)
    return json.dumps(scores, indent=2, ensure_ascii=False, default=str).splitlines() if scores else []


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
