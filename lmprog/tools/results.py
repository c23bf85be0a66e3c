"""Conversion of a tool's answer to a value of the type that the tool declares."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from lmprog.boundary.wire import loads
from lmprog.compiler.plan import Tool
from lmprog.compiler.types.lattice import JSON, MAX_DEPTH, STR, deeper, mismatch, without_none
from lmprog.tools.tool import ToolFailed


def of_text(tool: Tool, text: str, *, is_json: bool) -> Any:
    """Return the value of the declared type in a tool's answer: the text itself for `str`, None for a blank answer of
    an optional type, else the JSON in it. For the type `json` a text that is no JSON is the value. Raises ToolFailed
    where the answer does not fit.

    With `is_json` the sender declares that the text is JSON: what is no JSON is then refused, for the type `json` too,
    and for `str` a JSON text in quotes is unquoted, while other JSON is the text as it is.
    """
    kind = without_none(tool.type)
    if not text.strip() and kind is not tool.type:
        return None
    if kind == STR and not is_json:
        return text
    try:
        value = loads(text)
    except ValueError as error:
        if kind in (STR, JSON) and not is_json:
            return text
        raise ToolFailed(f"{tool.id} answered with what is no JSON: {first_line(text)!r} ({error})") from None
    if kind == STR and not isinstance(value, str):
        return text
    return checked(tool, value)


def checked(tool: Tool, value: Any) -> Any:
    """Return a tool's result as plain values if it is of the declared type. Raises ToolFailed if it is not, cannot be made
    plain values, or is nested deeper than MAX_DEPTH.
    """
    try:
        value = value if deeper(value) else plain(value)
    except Exception as error:  # a model or dataclass whose fields hold what is no plain value
        said = first_line(f"{type(error).__name__}: {error}")
        raise ToolFailed(f"{tool.id} returned what cannot be made plain values: {said}") from error
    if deeper(value):
        raise ToolFailed(f"{tool.id} returned what is nested deeper than {MAX_DEPTH}")
    if problem := mismatch(value, tool.type):
        raise ToolFailed(f"{tool.id} returned what it does not declare: {problem}")
    return value


def plain(value: Any) -> Any:
    """Return a value with pydantic models and dataclasses, also in a list or tuple, as mappings by field name, and a
    tuple as a list; any other value as it is, so a mapping with all that it holds. Raises whatever a model or dataclass
    raises that cannot be converted.
    """
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return value.model_dump(mode="json", by_alias=False)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value


def most_bytes(tool: Tool) -> int:
    """Return the most bytes of an answer that are read, after decompression: a million for each of the tool's
    `answer_mb`."""
    return int(tool.answer_mb * 1e6)


def too_long(tool: Tool) -> ToolFailed:
    """Return the failure for an answer with more bytes than the tool's `answer_mb`."""
    said = f"the answer is longer than {tool.answer_mb:g} MB"
    return ToolFailed(f"{tool.id}: {said}; raise tools.{tool.id}.answer_mb where such an answer is right")


def first_line(text: str) -> str:
    """Return the first line of a server's message that is not blank, cut to 200 characters; empty where there is
    none."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= 200 else line[:197] + "..."
