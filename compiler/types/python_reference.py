"""References to Python functions in a spec, `./file.py:name` and `package.module:name`, and their import."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmprog.compiler.errors import LmprogError
from lmprog.compiler.findings.finding import nearest
from lmprog.compiler.standard_output import sent_to_stderr
from lmprog.compiler.yaml.files import followed, note

_loaded: dict[tuple[str, int], Any] = {}


@dataclass(frozen=True)
class PythonReference:
    """A reference to a Python function as it is written (`text`): `./file.py:name` (`file` is the resolved path,
    `module` None) or `package.module:name` (`file` None).

    `beside` is the file beside the spec that has the name of the module (None: there is none).
    """

    text: str
    file: Path | None
    module: str | None
    name: str
    beside: Path | None = field(default=None, compare=False)
    """The file beside the spec that has the name of the module, where there is one."""


class ImportFailed(LmprogError):
    """The error of user code that cannot be imported; the message names the file, line and cause."""


def reference(text: str, folder: Path) -> PythonReference:
    """Return the reference to a Python function in a text: `./file.py:name`, relative to `folder`, where the text before the
    colon ends with .py, has a slash or begins with a dot; else `package.module:name`. Nothing is imported, and neither has
    to exist: any text gives a reference, which may name nothing that can be imported."""
    where, _, name = text.rpartition(":")
    if where.endswith(".py") or "/" in where or where.startswith("."):
        return PythonReference(text, followed(folder / where), None, name)
    beside = folder / f"{where.replace('.', '/')}.py"
    return PythonReference(text, None, where, name, beside if os.path.isfile(beside) else None)


def load(reference: PythonReference) -> Callable[..., Any]:
    """Return the function (or class) that a reference names, or raise ImportFailed; this runs the user's code, whose prints
    go to stderr. An object of another kind is returned too: the caller checks it.

    A file is imported once per process while its time of change stays, under a unique module name, so that two files named
    `metrics.py` do not clash; its folder is on `sys.path` only meanwhile.
    """
    module = _file(reference) if reference.file is not None else _module(reference)
    try:
        found: Callable[..., Any] = getattr(module, reference.name)
    except AttributeError:
        # What the module imports is callable too, and rarely meant.
        own = {
            name: getattr(each, "__module__", None) == module.__name__
            for name, each in vars(module).items()
            if not name.startswith("_") and callable(each)
        }
        names = [name for name in own if own[name] or not any(own.values())]
        close = nearest(reference.name, names)
        instead = f"did you mean `{close}`?" if close else f"it has {', '.join(sorted(names)) or 'nothing'}"
        raise ImportFailed(f"there is no `{reference.name}` in {_shown(reference)}; {instead}") from None
    return found


def forget(files: Collection[Path]) -> None:
    """Drop all files that `load` has imported, and the modules that Python has imported from `files` (resolved paths), so
    that the next use imports them again."""
    _loaded.clear()
    endings = tuple(path.name for path in files)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(endings) and followed(Path(file)) in files:
            del sys.modules[name]
    importlib.invalidate_caches()


def _shown(reference: PythonReference) -> str:
    return reference.file.name if reference.file else str(reference.module)


def _file(reference: PythonReference) -> Any:
    path = reference.file
    assert path is not None
    note(path)
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise ImportFailed(f"cannot read {path}: {error.strerror}") from error
    kept = _loaded.get((str(path), stamp))
    if kept is not None:
        return kept
    name = f"lmprog_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportFailed(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        # What user code prints while it is imported must not get into a document on standard output.
        with sent_to_stderr():
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        raise ImportFailed(f"cannot import {path.name}: {_cause(error)}") from error
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(path.parent))
    _loaded[str(path), stamp] = module
    return module


def _module(reference: PythonReference) -> Any:
    assert reference.module is not None
    try:
        with sent_to_stderr():
            found = importlib.import_module(reference.module)
        if getattr(found, "__file__", None):
            note(Path(found.__file__))  # type: ignore[arg-type]
        return found
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        file = (
            f"; write ./{reference.module.replace('.', '/')}.py:{reference.name} for the file"
            if reference.beside
            else ""
        )
        raise ImportFailed(f"cannot import {reference.module}: {_cause(error)}{file}") from error


def _cause(error: BaseException) -> str:
    import traceback

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: {error.msg}"
    place = f"line {frames[-1].lineno}: " if len(frames) > 1 else ""
    return f"{place}{type(error).__name__}: {error}"
