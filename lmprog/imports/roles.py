"""Prompts that hold all their messages in one Jinja text, parted by lines such as `system:` and `# user:`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

_ROLE = r"^[ \t]*#?[ \t]*(system|developer|user|assistant|function|tool)[ \t]*(?:\[[^\]\n]*\])?[ \t]*:[ \t]*$"
_BOUNDARY = re.compile(_ROLE, re.IGNORECASE | re.MULTILINE)
_NAMED = re.compile(r"^[ \t]*#?[ \t]*\{\{-?\s*\w+\.role\s*-?\}\}[ \t]*:[ \t]*$", re.MULTILINE)
_LOOP = re.compile(r"\{%-?\s*for\s+\w+\s+in\s+(\w+)\s*-?%\}((?:(?!\{%-?\s*for\b).)*?)\{%-?\s*endfor\s*-?%\}", re.DOTALL)


@dataclass(frozen=True)
class RolePrompt:
    """A prompt in the parts of a module's layout.

    `turns` are the variables whose items were whole messages: as inputs of type `messages` they stand as turns before the
    user's, so no template mentions them. `notes` say what is no longer as it was.
    """

    system: str | None
    user: str
    turns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def variables(self) -> frozenset[str]:
        """The variables that the templates read."""
        return frozenset().union(*(_variables(text) for text in (self.system, self.user) if text))

    def layout(self) -> dict[str, Any]:
        """`instructions` and `prompt` of a module; a system text without variables is what an optimizer may rewrite."""
        if self.system is None:
            return {"prompt": {"user": self.user}}
        if any(mark in self.system for mark in ("{{", "{%", "{#")):
            return {"prompt": {"system": self.system, "user": self.user}}
        return {"instructions": self.system, "prompt": {"system": "{{ instructions }}", "user": self.user}}


def split(text: str, first: str = "system", threads: tuple[str, ...] = ()) -> RolePrompt:
    """The parts of a prompt. `first` is the role of what stands before any role line; `threads` are variables that are
    earlier turns wherever they stand on a line of their own."""
    notes: list[str] = []
    turns: list[str] = []

    def turn(found: re.Match[str]) -> str:
        body = found[2]
        if not (_BOUNDARY.search(body) or _NAMED.search(body)):
            return found[0]
        if found[1] not in turns:
            turns.append(found[1])
        return ""

    rest = _LOOP.sub(turn, "\n".join(line.rstrip() for line in text.splitlines()))
    for name in threads:
        rest, count = re.subn(rf"^[ \t]*\{{\{{-?\s*{name}\s*-?\}}\}}[ \t]*$", "", rest, flags=re.MULTILINE)
        turns += [name] if count else []
    sections = _sections(rest, first)
    if not _readable(rest):
        notes.append("a template that cannot be read as Jinja: its text is as it was, so mend it")
    elif not all(_readable(part) for _, part in sections):
        notes.append("roles that stand inside an {% if %} or {% for %}: the whole prompt is sent as the user's turn")
        return RolePrompt(None, rest.strip(), tuple(turns), tuple(notes))
    systems = [part for role, part in sections if role in ("system", "developer")]
    others = [(role, part) for role, part in sections if role not in ("system", "developer")]
    system = "\n\n".join(systems) or None
    if not others:
        notes.append("there is no user turn, which a layout needs: the system text is sent as the user's")
        return RolePrompt(None, system or "", tuple(turns), tuple(notes))
    if len(others) == 1 and others[0][0] == "user":
        user = others[0][1]
    else:
        notes.append(
            "turns before the last one as messages of their own (demos, perhaps): they stand in the user's turn"
        )
        user = "\n\n".join(f"{role.capitalize()}:\n{part}" for role, part in others)
    return RolePrompt(system, user, tuple(turns), tuple(notes))


def looped(text: str) -> frozenset[str]:
    """The variables that a template takes apart: loops over, indexes, or reads fields of."""
    found: set[str] = set()
    if not _readable(text):
        return frozenset()
    tree = Environment().parse(text)
    for node in tree.find_all((nodes.For, nodes.Getattr, nodes.Getitem)):
        inner = node.iter if isinstance(node, nodes.For) else node.node  # type: ignore[attr-defined]
        found |= {name.name for name in [inner, *inner.find_all(nodes.Name)] if isinstance(name, nodes.Name)}
    return frozenset(found)


def _sections(text: str, first: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    parts = _BOUNDARY.split(text)
    for role, part in zip([first, *parts[1::2]], parts[0::2], strict=True):
        if part.strip():
            found.append((role.lower(), part.strip()))
    return found


def _readable(text: str) -> bool:
    try:
        Environment().parse(text)
    except TemplateSyntaxError:
        return False
    return True


def _variables(text: str) -> frozenset[str]:
    return frozenset(meta.find_undeclared_variables(Environment().parse(text))) if _readable(text) else frozenset()


def shapes(prompt: RolePrompt, given: Mapping[str, str]) -> dict[str, str]:
    """The inputs of a module for `prompt`: the variables it reads with the types `given`, str for others; and its turns."""
    read = {name: given.get(name, "str") for name in [*given, *sorted(prompt.variables)] if name in prompt.variables}
    return {**read, **dict.fromkeys(prompt.turns, "messages")}
