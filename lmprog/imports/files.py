"""Reading of files of other tools, with the same limits as for programs: regular, UTF-8, not too large or deep,
no YAML bombs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

from lmprog.compiler.yaml import files
from lmprog.compiler.yaml.reader import MAX_UNFOLDED, unfolded
from lmprog.errors import UsageError

T = TypeVar("T")


class _Texts(yaml.SafeLoader):
    """Reads a date as the text that it is written as: no type of the language is a date."""

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_text(path: Path) -> str:
    """Return the text of a file, without a byte order mark. Raises UsageError where it is no readable text."""
    try:
        return files.read_text(path).removeprefix("\ufeff")
    except files.NotRead as error:
        raise UsageError(f"cannot read {path}: {error}") from None


def read_yaml(text: str, name: str) -> Any:
    """Return the value of a YAML text, called `name` in messages. Raises UsageError where it cannot be read."""

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
