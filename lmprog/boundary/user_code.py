"""The file and line of user code that raised an exception, for messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from traceback import walk_tb
from typing import Any


def raised_at(function: Callable[..., Any] | None, error: BaseException) -> str:
    """Return ` (file:line)`, with a blank in front, of the last frame of an exception that lies in the folder of the
    function's file, or below it.

    Where no frame lies there it is the function's first line; empty for None and for a function without Python code. The
    file is named without its folder.
    """
    code = getattr(inspect.unwrap(function), "__code__", None) if function is not None else None
    if code is None:
        return ""
    file, line = code.co_filename, code.co_firstlineno
    folder = Path(code.co_filename).parent
    for frame, number in walk_tb(error.__traceback__):
        if folder in Path(frame.f_code.co_filename).parents:
            file, line = frame.f_code.co_filename, number
    return f" ({Path(file).name}:{line})"
