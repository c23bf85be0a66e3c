"""Prompts with all their messages in one Jinja text, separated by role lines such as `system:` and `# user:`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, meta

from lmprog.imports.shapes import uses

_ROLE = r"^[ \t]*#?[ \t]*(system|developer|user|assistant|function|tool)[ \t]*(?:\[[^\]\n]*\])?[ \t]*:[ \t]*$"
_BOUNDARY = re.compile(_ROLE, re.IGNORECASE | re.MULTILINE)
_NAMED = re.compile(r"^[ \t]*#?[ \t]*\{\{-?\s*\w+\.role\s*-?\}\}[ \t]*:[ \t]*$", re.MULTILINE)
_MARKS = ("{{", "{%", "{#")
_TALK = ("user", "assistant")
_LOOP = re.compile(r"\{%-?\s*for\s+\w+\s+in\s+(\w+)\s*-?%\}((?:(?!\{%-?\s*for\b).)*?)\{%-?\s*endfor\s*-?%\}", re.DOTALL)


@dataclass(frozen=True)
class RolePrompt:
    """A prompt of another tool in parts, as the layout of a module has them: the system's text (None: none) and the user's.

    `turns` are the variables whose items were whole messages: as inputs of type `messages` they stand as turns before the
    user's, so no template mentions them. `loops` has, by variable, the template of the loop that wrote its messages.
    `earlier` are messages without variables before the last one. `notes` say what is not as in the original.
    """

    system: str | None
    user: str
    turns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    loops: Mapping[str, str] = field(default_factory=dict)
    earlier: tuple[Mapping[str, str], ...] = ()

    @property
    def variables(self) -> frozenset[str]:
        """The names of the variables that the templates read."""
        return frozenset().union(*(_variables(text) for text in (self.system, self.user) if text))

    def changed(self, change: Callable[[str], str]) -> RolePrompt:
        """Return the prompt with `change` applied to each of its templates."""
        return replace(self, system=None if self.system is None else change(self.system), user=change(self.user))

    def layout(self) -> dict[str, Any]:
        """Return the module's `instructions` and `prompt`; a system text without variables becomes the instructions."""
        if self.system is None:
            return {"prompt": {"user": self.user}}
        if _is_template(self.system):
            return {"prompt": {"system": self.system, "user": self.user}}
        return {"instructions": self.system, "prompt": {"system": "{{ instructions }}", "user": self.user}}


def split(text: str, first: str = "system", threads: tuple[str, ...] = ()) -> RolePrompt:
    """Split a prompt at its role lines (`system:`) into the parts of a module's layout.

    `first` is the role of text before any role line; `threads` are variables that hold earlier turns.
    """
    notes: list[str] = []
    loops: dict[str, str] = {}

    def turn(loop: re.Match[str]) -> str:
        body = loop[2]
        if not (_BOUNDARY.search(body) or _NAMED.search(body)) or loops.get(loop[1], loop[0]) != loop[0]:
            return loop[0]
        loops[loop[1]] = loop[0]
        return ""

    rest = _LOOP.sub(turn, text)
    turns = [*loops]
    for name in threads:
        rest, count = re.subn(rf"^[ \t]*\{{\{{-?\s*{name}\s*-?\}}\}}[ \t]*$", "", rest, flags=re.MULTILINE)
        turns += [name] if count else []
    sections = _sections(rest, first)
    if not _readable(rest):
        notes.append("a template that cannot be read as Jinja: its text is as it was, so mend it")
    elif not all(_readable(part) for _, part in sections):
        notes.append("roles that stand inside an {% if %} or {% for %}: the whole prompt is sent as the user's turn")
        return RolePrompt(None, rest.strip(), tuple(turns), tuple(notes), loops)
    systems = [part for role, part in sections if role in ("system", "developer")]
    others = [(role, part) for role, part in sections if role not in ("system", "developer")]
    system = "\n\n".join(systems) or None
    if not others:
        notes.append("there is no user turn, which a layout needs: the system text is sent as the user's")
        return RolePrompt(None, system or "", tuple(turns), tuple(notes), loops)
    *before, (role, last) = others
    if (
        role == "user"
        and not any(_is_template(part) or other not in _TALK for other, part in before)
        and not (before and turns)
    ):
        earlier = tuple({"role": role, "content": part} for role, part in before)
        return RolePrompt(system, last, tuple(turns), tuple(notes), loops, earlier)
    notes.append("turns before the last one as messages of their own (demos, perhaps): they stand in the user's turn")
    user = "\n\n".join(f"{role.capitalize()}:\n{part}" for role, part in others)
    return RolePrompt(system, user, tuple(turns), tuple(notes), loops)


def messages(text: str, first: str) -> list[tuple[str, str]]:
    """Return the pairs of role and text in a rendered prompt, split at role lines; `first` is the role of text before any
    of them.
    """
    return _sections(text, first)


def _sections(text: str, first: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    parts = _BOUNDARY.split(text)
    for role, part in zip([first, *parts[1::2]], parts[0::2], strict=True):
        if part.strip():
            found.append((role.lower(), part.strip()))
    return found


def _is_template(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


def _readable(text: str) -> bool:
    try:
        Environment().parse(text)
    except TemplateSyntaxError:
        return False
    return True


def _variables(text: str) -> frozenset[str]:
    if not _readable(text):
        return frozenset()
    try:
        return frozenset(meta.find_undeclared_variables(Environment().parse(text)))
    except TemplateSyntaxError:  # a filter or test that Jinja does not have
        return frozenset(uses(text))
