"""Explanations of templates that jinja cannot parse: the place, the cause in plain words, and the fix."""

from __future__ import annotations

import re

from jinja2 import TemplateSyntaxError

from lmprog.compiler.templates.safety import Problem, line_start

_MARK = re.compile(r"\{\{|\}\}|\{%|%\}|\{#|#\}")
_CLOSING = {"{{": "}}", "{%": "%}", "{#": "#}"}
_NAMES = {"{{": "a hole", "{%": "a statement", "{#": "a comment"}
_RAW = re.compile(r"\{%-?\s*raw\s*-?%\}.*?\{%-?\s*endraw\s*-?%\}", re.DOTALL)
_OBJECT = re.compile(r"\{\{(\s*[\"'][^{}]*)\}\}")


def slip(text: str, error: TemplateSyntaxError) -> Problem:
    """Return the problem (LMP101, or LMP801 for an unknown tag) for a template that jinja cannot parse because of `error`:
    braces around JSON or a mark that does not end, with a fix, else what jinja says."""
    message = str(error.message)
    if "Unexpected" not in message and "unknown tag" in message:
        return Problem("LMP801", f"the template cannot be read: {message}", line_start(text, error.lineno))
    start = line_start(text, error.lineno)
    end = text.find("\n", start)
    braces = _OBJECT.search(text, start, end if end >= 0 else len(text))
    if braces:
        said = "doubled braces hold one value, and this is an object of JSON"
        fix = f"write {{{_short(braces[1])}}} with single braces, which are text"
        return Problem("LMP101", said, braces.start(), 2, fix)
    opened = _unclosed(text)
    if opened is not None:
        mark = text[opened : opened + 2]
        said = f"{_NAMES[mark]} that opens with {mark} does not end"
        fix = f"close it with {_CLOSING[mark]}, or write {{{{ '{mark}' }}}} where the two characters are meant"
        return Problem("LMP101", said, opened, 2, fix)
    return Problem("LMP101", f"the template cannot be read: {message}", start)


def _unclosed(text: str) -> int | None:
    """Return the offset of the first opening mark that another one, or the end of the text, follows in place of its own
    end; None where there is none."""
    bare = _RAW.sub(lambda raw: " " * len(raw[0]), text)
    opened = ""
    place = 0
    for found in _MARK.finditer(bare):
        if not opened and found[0] in _CLOSING:
            opened, place = found[0], found.start()
        elif opened and found[0] == _CLOSING[opened]:
            opened = ""
        elif opened and found[0] in _CLOSING and opened != "{#":
            return place
    return place if opened else None


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
