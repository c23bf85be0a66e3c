"""Prompts with all their messages in one Jinja text, separated by role lines such as `system:` and `# user:`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, meta, pass_context
from jinja2.sandbox import SandboxedEnvironment

from lmprog.imports.shapes import uses

_ROLE = r"^[ \t]*#?[ \t]*(system|developer|user|assistant|function|tool)[ \t]*(?:\[[^\]\n]*\])?[ \t]*:[ \t]*$"
_BOUNDARY = re.compile(_ROLE, re.IGNORECASE | re.MULTILINE)
_NAMED = re.compile(r"^[ \t]*#?[ \t]*\{\{-?\s*\w+\.role\s*-?\}\}[ \t]*:[ \t]*$", re.MULTILINE)
_MARKS = ("{{", "{%", "{#")
_TALK = ("user", "assistant")
_LOOP = re.compile(r"\{%-?\s*for\s+\w+\s+in\s+(\w+)\s*-?%\}((?:(?!\{%-?\s*for\b).)*?)\{%-?\s*endfor\s*-?%\}", re.DOTALL)


class _Unfolded(SandboxedEnvironment):
    """An environment of Jinja that computes nothing of a template beforehand: `"x" * 10**10` would fill the memory."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})


_UNFOLDED = _Unfolded()
# What needs the context of a rendering is never computed without one.
_UNFOLDED.filters = {name: pass_context(lambda *_: None) for name in _UNFOLDED.filters}


@dataclass(frozen=True)
class RolePrompt:
    """A prompt of another tool in parts, as the layout of a module has them: the templates of the system's text (None: none)
    and the user's.

    `turns` are the variables whose items were whole messages: as inputs of type `messages` they stand as turns before the
    user's, so no template mentions them. `loops` has, by variable, the template of the loop that wrote its messages.
    `earlier` are messages (`role`, `content`) without variables before the last one. `notes` are sentences on what is not
    as in the original.
    """

    system: str | None
    user: str
    turns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    loops: Mapping[str, str] = field(default_factory=dict)
    earlier: tuple[Mapping[str, str], ...] = ()

    @property
    def variables(self) -> frozenset[str]:
        """The names of the variables that the two templates read, without `turns`; none of a template that Jinja cannot
        parse.
        """
        return frozenset().union(*(_variables(text) for text in (self.system, self.user) if text))

    def changed(self, change: Callable[[str], str]) -> RolePrompt:
        """Return the prompt with `change` applied to the templates `system` (unless it is None) and `user`."""
        return replace(self, system=None if self.system is None else change(self.system), user=change(self.user))

    def layout(self) -> dict[str, Any]:
        """Return the entries `prompt` and `instructions` of a module; the latter only where there is a system text
        without variables, which becomes the instructions, and `{{ instructions }}` stands in its place in the prompt.
        """
        if self.system is None:
            return {"prompt": {"user": self.user}}
        if _is_template(self.system):
            return {"prompt": {"system": self.system, "user": self.user}}
        return {"instructions": self.system, "prompt": {"system": "{{ instructions }}", "user": self.user}}


def split(text: str, first: str = "system", threads: tuple[str, ...] = ()) -> RolePrompt:
    """Return a prompt split at its role lines (`system:`) into the parts of a module's layout. What cannot be split, as
    roles inside an `{% if %}` or several turns with variables, is sent as the user's turn, with a note; a template that
    Jinja cannot parse is split all the same, with a note.

    `text` is a Jinja template with all messages, `first` the role of text before any role line, and `threads` are
    variables that hold earlier turns and stand on a line of their own.
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
    """Return the pairs of role (in lower case) and text in a rendered prompt, split at role lines; texts are without
    the blanks around them, and empty ones are left out. `first` is the role of text before any role line.
    """
    return _sections(text, first)


def _sections(text: str, first: str) -> list[tuple[str, str]]:
    """Return the pairs of role and stripped text of a prompt or template, split at role lines, without empty texts."""
    found: list[tuple[str, str]] = []
    parts = _BOUNDARY.split(text)
    for role, part in zip([first, *parts[1::2]], parts[0::2], strict=True):
        if part.strip():
            found.append((role.lower(), part.strip()))
    return found


def _is_template(text: str) -> bool:
    """Return whether a text has a mark of Jinja."""
    return any(mark in text for mark in _MARKS)


def _readable(text: str) -> bool:
    """Return whether Jinja can parse a text."""
    try:
        Environment().parse(text)
    except (TemplateSyntaxError, ValueError):  # the latter as of a number with thousands of digits
        return False
    return True


def _variables(text: str) -> frozenset[str]:
    """Return the names of the variables that a template reads; empty where Jinja cannot parse it."""
    if not _readable(text):
        return frozenset()
    try:
        return frozenset(meta.find_undeclared_variables(_UNFOLDED.parse(text)))
    except TemplateSyntaxError:  # a filter or test that Jinja does not have
        return frozenset(uses(text))
