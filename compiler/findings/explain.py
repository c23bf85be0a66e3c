"""The page of each code: what it means, an example, and what to do."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=64)
def page(code: str) -> str | None:
    """Return the page of a code such as LMP203 (in capitals or not), as Markdown; None where there is no such code."""
    if not code.isalnum() or len(code) > 20:
        return None
    try:
        return files("lmprog.compiler").joinpath("pages", f"{code.upper()}.md").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def title(code: str) -> str:
    """Return the title of the page of a code such as LMP203 (in capitals or not), its first line without the code; the
    code itself where there is no page."""
    text = page(code)
    return text.partition("\n")[0].removeprefix(f"# {code.upper()}: ") if text else code
