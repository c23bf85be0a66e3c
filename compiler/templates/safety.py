"""Safety of templates: an allow-list of constructs, calls and filters (801, 802)."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field

from jinja2 import nodes

from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.templates.compiled import FILTERS, STRING_METHODS

_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem,
    nodes.Slice, nodes.If, nodes.For, nodes.Assign, nodes.AssignBlock, nodes.CondExpr, nodes.Filter, nodes.Test,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub,
    nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Concat, nodes.List, nodes.Tuple, nodes.Dict,
    nodes.Pair, nodes.Call, nodes.Keyword, nodes.With, nodes.FilterBlock,
)  # fmt: skip
_KEYWORDS = {"CallBlock": "call", "FromImport": "from", "NSRef": "set", "ScopedEvalContextModifier": "autoescape"}
"""Keywords of the template nodes whose class names differ from the keyword."""
MAX_DEPTH = 100
"""The most levels of a template's syntax tree."""
CLOCKS = frozenset({
    "now", "today", "utcnow", "time", "datetime", "date", "uuid", "uuid4", "random", "randint", "choice", "shuffle",
    "lipsum",
})  # fmt: skip
"""Names of functions that give another value each time, as templates of other tools call them."""


@dataclass(frozen=True)
class Problem:
    """A problem in a template: the finding's code and message, how to fix it (None: not known), and its place, `length`
    characters from the character `offset` of the text, which counts from 0."""

    code: str
    message: str
    offset: int
    length: int = 1
    fix: str | None = None


def line_start(text: str, line: int) -> int:
    """Return the offset in a text at which a line starts; lines count from 1."""
    return sum(len(part) + 1 for part in text.split("\n")[: line - 1])


def problem_at(
    text: str,
    code: str,
    node: nodes.Node,
    message: str,
    word: str = "",
    fix: str | None = None,
    skip: int = 0,
) -> Problem:
    """Return a problem at `word` in the line of `node`, behind its first braces, after `skip` earlier occurrences there (the
    last one, if there are fewer); else at the first `word` from there to the end of the text, or at the start of the line.

    `text` is the template, `code` (`LMPnnn`) and `message` are those of the finding; `fix` None: how to mend it is not
    known.
    """
    start = line_start(text, _line(node))
    if word:
        end = text.find("\n", start)
        brace = re.compile(r"\{[{%]").search(text, start, end if end >= 0 else len(text))
        whole = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(word)}(?![A-Za-z0-9_])")
        found = list(whole.finditer(text, brace.start() if brace else start, end if end >= 0 else len(text)))
        found = found or list(whole.finditer(text, start))[:1]
        if found:
            return Problem(code, message, found[min(skip, len(found) - 1)].start(), len(word), fix)
    return Problem(code, message, start, 1, fix)


def _line(node: nodes.Node) -> int:
    """Return the line of a node; some that jinja makes itself have none, and what they hold has."""
    lines = [found.lineno for found in (node, *node.find_all(nodes.Node)) if found.lineno]
    return lines[0] if lines else 1


def unsafe_parts(text: str, tree: nodes.Template, names: Container[str]) -> list[Problem]:
    """Return a problem for each construct, call, filter and name with underscores that the template `text`, of the syntax
    tree `tree`, must not contain (LMP801), or that gives another value each time (LMP802), and for unknown filters
    (LMP201). `names` are the variables that it is given.
    """
    walker = _Walker(text, names)
    walker.walk(tree)
    return walker.problems


def too_deep(tree: nodes.Node) -> bool:
    """Return whether the syntax tree of a template is more than MAX_DEPTH (100) levels deep, beyond any that a person would
    write."""
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        if depth > MAX_DEPTH:
            return True
        stack.extend((child, depth + 1) for child in node.iter_child_nodes())
    return False


@dataclass
class _Walker:
    """A walk through a template that gathers its problems."""

    text: str
    names: Container[str]
    problems: list[Problem] = field(default_factory=list)

    def say(self, code: str, node: nodes.Node, message: str, word: str = "", fix: str | None = None) -> None:
        """Add a problem at the first `word` in the line of `node`; `fix` None: how to mend it is not known."""
        self.problems.append(problem_at(self.text, code, node, message, word, fix))

    def walk(self, tree: nodes.Node) -> None:
        """Add the problems of a tree; what stands within a construct that is refused is not looked at."""
        stack: list[nodes.Node] = [tree]
        while stack:
            node = stack.pop()
            if not isinstance(node, _ALLOWED):
                kind = type(node).__name__
                word = _KEYWORDS.get(kind, kind.lower())
                self.say("LMP801", node, f"a template cannot use `{word}`", word)
                continue
            if isinstance(node, nodes.Getattr | nodes.Getitem):
                name = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
                if isinstance(name, str) and name.startswith("_"):
                    self.say("LMP801", node, f"a template cannot read `{name}`", name)
                    continue
            elif isinstance(node, nodes.Name) and node.name.startswith("__"):
                self.say("LMP801", node, f"a template cannot read `{node.name}`", node.name)
            elif isinstance(node, nodes.Call):
                self._check_call(node)
            elif isinstance(node, nodes.Filter) and node.name not in FILTERS:
                self._check_filter(node)
            stack.extend(node.iter_child_nodes())

    def _check_call(self, node: nodes.Call) -> None:
        called = node.node
        if isinstance(called, nodes.Name):
            if called.name in CLOCKS:
                self.say("LMP802", node, f"`{called.name}` gives another value each time", called.name)
            elif called.name != "range":
                self.say("LMP801", node, f"a template cannot call `{called.name}`", called.name)
            return
        if isinstance(called, nodes.Getattr):
            if called.attr in STRING_METHODS:
                return
            root = called.node
            if isinstance(root, nodes.Name) and root.name in CLOCKS and root.name not in self.names:
                self.say("LMP802", node, f"`{root.name}` gives another value each time", root.name)
                return
            fix = f"write the filter: |{called.attr}" if called.attr in FILTERS else "make the value with a step"
            self.say("LMP801", node, f"a template cannot call `{called.attr}`", called.attr, fix)
            return
        self.say("LMP801", node, "a template cannot call a value")

    def _check_filter(self, node: nodes.Filter) -> None:
        if node.name in ("random", "shuffle"):
            self.say("LMP802", node, f"the filter `{node.name}` gives another value each time", node.name)
        elif node.name in ("attr", "pprint", "xmlattr", "urlize", "safe", "forceescape"):
            self.say("LMP801", node, f"a template cannot use the filter `{node.name}`", node.name)
        else:
            fix = suggestion(node.name, FILTERS, "filters")
            self.say("LMP201", node, f"there is no filter `{node.name}`", node.name, fix)
