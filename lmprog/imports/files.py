"""Reading of files of other tools, with the same limits as for programs: regular, UTF-8, not too large or deep, and no YAML
whose aliases stand for too much.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

from lmprog.compiler.yaml import files
from lmprog.compiler.yaml.reader import MAX_UNFOLDED, unfolded
from lmprog.errors import UsageError

T = TypeVar("T")


class _Texts(yaml.SafeLoader):
    """A loader of YAML that reads a date as the text that it is written as, since no type of the language is a date."""

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_text(path: Path) -> str:
    """Return the text of a file, with `\\n` as line ends and without a byte order mark. Raises UsageError where it is
    absent, no regular file, larger than 64 MB, or no UTF-8 text.
    """
    try:
        return files.read_text(path).removeprefix("\ufeff")
    except files.NotRead as error:
        raise UsageError(f"cannot read {path}: {error}") from None


def may_read(named_by: Path, other: Path) -> bool:
    """Return whether the file `other`, which the file `named_by` of another tool names, may be read: with links
    followed, it lies in the git checkout of `named_by` (else in its folder), not in `.git`, and is a valid path.
    Whether it exists makes no difference.
    """
    try:
        return files.refusal(other, files.root_of(named_by)) is None
    except (OSError, RuntimeError, ValueError):
        return False


def python_reference(source: Path, folder: Path, function: str) -> str:
    """Return the reference, such as `./tools.py:name`, by which a program in `folder` names a function of a Python
    file; it begins with `../` for a file outside of the folder.
    """
    path = Path(os.path.relpath(source.resolve(), folder.resolve())).as_posix()
    return f"{path if path.startswith('../') else f'./{path}'}:{function}"


def read_yaml(text: str, name: str) -> Any:
    """Return the plain value of a YAML text (None: it is empty), called `name` in messages; dates stay texts, and of
    equal keys the last counts. Raises UsageError where it is no YAML, nested too deeply, or its aliases stand for too
    much.
    """

    def read() -> Any:
        loader = None
        try:
            loader = _Texts(text)
            root = loader.get_single_node()
            if root is None:
                return None
            if _holds_itself(root, ()) or unfolded(root, {}) > MAX_UNFOLDED:
                raise UsageError(f"{name} has aliases that hold themselves, or stand for too much to read")
            return loader.construct_document(root)
        except yaml.YAMLError as error:
            raise UsageError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
        except (LookupError, AttributeError, TypeError):
            raise UsageError(f"{name} holds a value that does not fit its tag, such as `!!bool maybe`") from None
        except ValueError as error:  # as of a number with thousands of digits
            raise UsageError(f"{name} holds a value that cannot be read: {error}") from None
        finally:
            if loader is not None:
                loader.dispose()

    return within_depth(read, name)


def within_depth(work: Callable[[], T], name: str) -> T:
    """Return the result of `work`; raise UsageError where it ends in a RecursionError, because the file `name` is nested
    too deeply.
    """
    try:
        return work()
    except RecursionError:
        raise UsageError(f"{name} is nested too deeply to read") from None


def _holds_itself(node: yaml.Node, around: tuple[int, ...], known: set[int] | None = None) -> bool:
    """Return whether a node is a part of itself by an alias. `around` are the ids (of Python) of the nodes around it, and
    `known` those already looked at (None: none yet), to which it is added.
    """
    known = set() if known is None else known
    if id(node) in around:
        return True
    if id(node) in known:
        return False
    known.add(id(node))
    parts: list[Any] = []
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    return any(_holds_itself(part, (*around, id(node)), known) for part in parts)
