"""The settings of a tool with the values of the environment in them, and out of every message again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from lmprog.compiler.expressions import EvaluationError, Expression
from lmprog.compiler.plan import Tool
from lmprog.errors import UsageError


def evaluated(tool: Tool, settings: Any) -> Any:
    """The settings with each `${{ env.NAME }}` as its value. Raises UsageError for a variable that is not set."""
    if isinstance(settings, Expression):
        try:
            return settings.evaluate({"env": os.environ})
        except EvaluationError as error:
            raise UsageError(f"the tool {tool.id!r}: {error}; set the variable and run the command again") from error
    if isinstance(settings, Mapping):
        return {name: evaluated(tool, value) for name, value in settings.items()}
    if isinstance(settings, list):
        return [evaluated(tool, value) for value in settings]
    return settings


def without_secrets(tool: Tool, *parts: str) -> Callable[[str], str]:
    """Takes what the environment gave to these parts of the settings (`headers`, `env`) out of a text."""
    secrets = {str(value) for part in parts for value in _expressions(tool, tool.settings.get(part)) if value}
    ordered = sorted(secrets, key=len, reverse=True)

    def hidden(text: str) -> str:
        for secret in ordered:
            text = text.replace(secret, "[secret]")
        return text

    return hidden


def _expressions(tool: Tool, settings: Any) -> list[Any]:
    if isinstance(settings, Expression):
        return [evaluated(tool, settings)]
    inner = settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list) else ()
    return [value for part in inner for value in _expressions(tool, part)]
