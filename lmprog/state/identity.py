"""The identity of a run: program, Python sources, rows, optimization and version, each by its key and digest.

A process that continues the work of an earlier one compares the two identities, so that no result mixes both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from lmprog.boundary.plain_values import texts_of
from lmprog.compiler import backends
from lmprog.compiler.artefacts.meaning import PROGRAMS
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import Metric, Optimize, Plan
from lmprog.compiler.plugins import package_of
from lmprog.compiler.steps.parts import programs
from lmprog.compiler.tools import kinds
from lmprog.compiler.types.python_reference import PythonReference
from lmprog.state.digests import digest, folder_state
from lmprog.state.python_sources import module_file, sources
from lmprog.version import __version__

SourceDigests = Mapping[str, str]
"""Digests by key: keys of the spec as `modules.sort.instructions`, `data.train`, and `lmprog` for the version."""

SAFE = re.compile(
    r"(.*: )?lms\.[^.]+\.(limits|api_key|api_base|adapter_store|headers|price|speed|cache|trusted)(\..*)?"
)
"""The keys of a program's digests that change no answer: where an LM is served, its rates and prices, and what is cached."""
ABSENT = "absent"
"""The digest of a file that cannot be read."""


def of_program(plan: Plan, prefix: str = "") -> dict[str, str]:
    """Return digests (SHA-256) of all that a program is made from, by key (as `modules.sort.instructions`): the parts of its
    spec, its files with the Python files that they import beside them, packages that it needs as plugins, local models
    (by `folder_state`), and its sub-programs. A file that cannot be read has the digest `absent`.

    Each key begins with `prefix`. Data, metrics, `optimize` and settings that change no answer (addresses, keys, limits,
    prices) are left out.
    """
    # Sub-programs are taken apart below; the version of the language stands in the version of lmprog.
    meaning = {key: value for key, value in plan.meaning.items() if key not in ("lmprog", "programs")}
    digests = {f"{prefix}{key}": digest(value) for key, value in _parts(meaning)}
    for key, path in plan.files.items():
        if not key.startswith("metrics."):
            digests |= _of_file(f"{prefix}{key}", path)
    for tool in plan.tools.values():
        digests |= _of_module(f"{prefix}tools.{tool.id}.python", tool.python)
        digests |= _of_package(f"{prefix}tools.{tool.id}", kinds.GROUP, tool.kind, kinds.BUILT_IN)
    for lm in plan.lms.values():
        digests |= _of_package(f"{prefix}lms.{lm.id}.model", backends.GROUP, lm.backend.prefix, backends.BUILT_IN)
        folder = backends.model_folder(lm.model)
        if folder is not None:
            digests[f"{prefix}lms.{lm.id}.model: {folder.name}"] = folder_state(folder)
    for inner in programs(plan.steps):
        digests |= of_program(inner, f"{prefix}{inner.path.name}: ")
    return {key: value for key, value in digests.items() if not SAFE.fullmatch(key)}


def files_of(plan: Plan, metric: str | None = None) -> list[Path]:
    """Return the files that a program and its sub-programs, and the metric `metric` with its judges (None: no metric), read
    or import, each once; Python files with those that they import beside them. The specs and the rows are left out."""
    found: dict[Path, None] = {}
    wanted = _needed(plan.metrics, metric) if metric is not None else []
    chosen = [f"metrics.{id}." for id in wanted]
    references = [*(tool.python for tool in plan.tools.values()), *(plan.metrics[id].computed_by for id in wanted)]
    named_modules = [one.module for one in references if isinstance(one, PythonReference) and one.module is not None]
    modules = map(module_file, named_modules)
    named = [
        path for key, path in plan.files.items() if not key.startswith("metrics.") or key.startswith(tuple(chosen))
    ]
    for path in (*named, *(file for file in modules if file is not None)):
        found |= dict.fromkeys(sources(path.resolve()) if path.suffix == ".py" else [path] if path.is_file() else [])
    for inner in (*programs(plan.steps), *(judge for id in wanted if (judge := plan.metrics[id].judge) is not None)):
        found |= dict.fromkeys(files_of(inner))
    return list(found)


def of_metric(plan: Plan, metric: str) -> dict[str, str]:
    """Return digests, by key, of all that the metric `metric` and the metrics it is computed from are made from: spec,
    Python files, judges. It is empty where the program has no such metric.
    """
    found: dict[str, str] = {}
    for id in _needed(plan.metrics, metric):
        declared = plan.metrics[id]
        key = f"metrics.{id}"
        by = declared.computed_by
        parts = {
            "kind": declared.kind,
            "with": declared.arguments,
            "python": by if isinstance(by, PythonReference) else None,
            "value": by if isinstance(by, Expression) else None,
            "range": declared.range,
            "on_error": declared.on_error,
        }
        found |= {f"{key}.{part}": digest(_plain(value)) for part, value in parts.items()}
        for place, path in plan.files.items():
            if place.startswith(f"{key}."):
                found |= _of_file(place, path)
        if isinstance(by, PythonReference):
            found |= _of_module(f"{key}.python", by)
        if declared.judge is not None:
            found |= of_program(declared.judge, f"{key}: {declared.judge.path.name}: ")
    return found


def of_optimization(block: Optimize) -> dict[str, str]:
    """Return digests, by key, of the settings of an `optimize` block, each stage by a key of its own, and of the teachers
    that a stage names.

    The budget is left out, since it may be raised between a run and its continuation, and so are the trackers, which change
    nothing, and the seed, which is compared apart.
    """
    found = {
        f"optimize.{field.name}": digest(_plain(getattr(block, field.name)))
        for field in fields(block)
        if field.name not in ("budget", "seed", "stages", "teachers", "report_to")
    }
    for index, stage in enumerate(block.stages):
        key = f"optimize.stages[{index}]"
        found[key] = digest([stage.optimizer, _plain(stage.options)])
        named = set(texts_of(stage.options))
        for path, plan in block.teachers.items():
            if path in named:
                found |= of_program(plan, f"{key}: {path}: ")
    return found


def of_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the digest (SHA-256 in hexadecimal) of rows, in their order; the order of columns does not matter."""
    return RowsDigest().of(rows)


class RowsDigest:
    """A digest of rows, in their order, that is computed as the rows are read; `rows` is their number so far."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.sha256()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the next row."""
        self.rows += 1
        self._hash.update(digest(row).encode())

    def of(self, rows: Iterable[Mapping[str, Any]]) -> str:
        """Add rows, and return the digest of all rows so far."""
        for row in rows:
            self.add(row)
        return self.hex

    @property
    def hex(self) -> str:
        """The digest of all rows so far, in hexadecimal."""
        return self._hash.hexdigest()


def version() -> dict[str, str]:
    """Return `{"lmprog": VERSION}`, to be joined with digests by key: the version of lmprog decides how prompts are written
    and replies read."""
    return {"lmprog": __version__}


def changes(before: SourceDigests, now: SourceDigests) -> list[str]:
    """Return a phrase for each key whose digest differs between two sets, as "`data.train` is changed" (or `new`, or
    `gone`), in the order of `now`, then those that are gone; of the key `lmprog` both versions are named. The list is
    empty where all are equal."""
    keys = [*now, *(key for key in before if key not in now)]
    return [_change(key, before, now) for key in keys if before.get(key) != now.get(key)]


def _change(key: str, before: SourceDigests, now: SourceDigests) -> str:
    if key == "lmprog":
        return f"lmprog is {now.get(key)} and was {before.get(key)}"
    return f"`{key}` is {'new' if key not in before else 'gone' if key not in now else 'changed'}"


def in_words(found: list[str]) -> str:
    """Return the first four of the phrases `found`, which `changes` returned, joined by commas, with ` and 3 more`
    where there are three more; empty where there is none."""
    shown = ", ".join(found[:4])
    return shown if len(found) <= 4 else f"{shown} and {len(found) - 4} more"


def _parts(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a document of plain values with their keys, as `modules.sort.instructions`: mappings are divided
    at up to three levels, but for empty ones."""
    if isinstance(value, Mapping) and value and depth < 3:
        for name, entry in value.items():
            yield from _parts(entry, f"{key}.{name}" if key else str(name), depth + 1)
    else:
        yield key, value


def _of_file(key: str, path: Path) -> dict[str, str]:
    """Return the digest of the content of a file, as a key with its name; of a Python file those of the files that it
    imports too, of an adapter's folder that of its files. Empty for a file that does not exist, and for a program."""
    if path.is_dir() and "adapter" in key:
        return {f"{key}: {path.name}": digest([(file.name, _content(file)) for file in _files(path)])}
    if path.suffix == ".py":
        return _of_python(key, path)
    return {f"{key}: {path.name}": _content(path)} if path.is_file() and path.suffix not in PROGRAMS else {}


def _of_python(key: str, path: Path) -> dict[str, str]:
    """Return the digests of a Python file and of the files beside it that it imports, by key and name."""
    whole = path.resolve()
    return {f"{key}: {file.relative_to(whole.parent)}": _content(file) for file in sources(whole)}


def _of_package(key: str, group: str, name: str, built_in: Container[str]) -> dict[str, str]:
    """Return a digest of the package and version that registers the plugin `name` in a group of entry points; empty for a
    name that is built in or that no package registers."""
    package = package_of(group, name) if name and name not in built_in else None
    return {f"{key}: {package}": digest(package)} if package is not None else {}


def _of_module(key: str, reference: PythonReference | None) -> dict[str, str]:
    """Return the digests of the file of an importable module; empty for a function of a file, a module without a `.py`
    file, and None."""
    file = module_file(reference.module) if reference is not None and reference.module is not None else None
    return _of_python(key, file) if file is not None else {}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _content(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or ABSENT where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ABSENT


def _needed(metrics: Mapping[str, Metric], metric: str) -> list[str]:
    """Return the ids of a metric and of all metrics that it is computed from; empty where there is no such metric."""
    found = [metric] if metric in metrics else []
    for id in found:
        found += [other for other in sorted(metrics[id].metrics) if other in metrics and other not in found]
    return found


def _plain(value: Any) -> Any:
    """Return a value as plain values, of which sets have an order, and expressions and references their text."""
    if isinstance(value, Expression | PythonReference):
        return value.text
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
