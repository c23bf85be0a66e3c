"""Environment variables in a tool's settings: their values, and their removal from messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from lmprog.boundary.secret_forms import forms_of, secrets_of_address, without
from lmprog.compiler.expressions.compiled import EvaluationError, Expression
from lmprog.compiler.plan import Tool
from lmprog.errors import UsageError


def evaluated(tool: Tool, settings: Any) -> Any:
    """Return a tool's settings (at any depth) with each `${{ env.NAME }}` replaced by the value of that environment
    variable.

    Raises UsageError for a variable that is not set.
    """
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


def without_secrets(tool: Tool) -> Callable[[str], str]:
    """Return a function that replaces by `[secret]`, in a text, every value that the tool's settings took from the
    environment, and every variable that they read, in all forms in which these may be quoted.

    The password and query values in the tool's address count as secrets too, even where they are written in the spec; an
    address from the environment does not as a whole, so that messages may name its host. Raises UsageError for a variable
    that is not set.
    """
    found = {str(value) for value in _expressions(tool, tool.settings) if value is not None}
    address = evaluated(tool, tool.settings.get("url"))
    if address is not None:
        # Of an address from the environment its parts alone are secret: messages may name the host.
        found = {value for value in found if value != str(address)} | secrets_of_address(str(address))
    secrets = forms_of(found)
    return lambda text: without(text, secrets, "[secret]")


def _expressions(tool: Tool, settings: Any) -> list[Any]:
    if isinstance(settings, Expression):
        return [evaluated(tool, settings), *_read(settings)]
    inner = settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list) else ()
    return [value for part in inner for value in _expressions(tool, part)]


def _read(expression: Expression) -> list[str]:
    """Return the values of the environment variables that an expression names, each by itself; those that are not set are
    left out.
    """
    names = [path[1] for path in expression.references if path[0] == "env" and len(path) > 1]
    return [os.environ[name] for name in names if name in os.environ]
