"""Type checks of templates: unknown names, values that may be absent, and values that do not print as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jinja2 import TemplateSyntaxError, nodes

from lmprog.compiler.templates.compiled import dotted_name, parse
from lmprog.compiler.templates.expressions import Expressions
from lmprog.compiler.templates.guards import Names, forget, narrow
from lmprog.compiler.templates.safety import Problem, too_deep, unsafe_parts
from lmprog.compiler.templates.signatures import item_of
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, STR, UNKNOWN, ListOf, Object, Optional, Type, join

_LOOP = Object(
    (
        *((name, INT) for name in ("index", "index0", "revindex", "revindex0", "length", "depth", "depth0")),
        *(("first", BOOL), ("last", BOOL), ("previtem", UNKNOWN), ("nextitem", UNKNOWN)),
    )
)

MAX_MARKS = 20_000
"""The most holes and statements of a template that is checked: one with more has a list written out."""


@dataclass
class TemplateTyper:
    """The check of the syntax, the safety and the types of one template; `names` are the types of its inputs.

    `check` fills `problems`, and `variables` with the inputs that the template reads. `tree` is the parsed template (None
    before `check`, and where it cannot be parsed or is too long or deep).
    """

    text: str
    names: Mapping[str, Type]
    readable: bool = True
    """False once `check` has found that the text is no template, or one that is too long or too deeply nested."""
    tree: nodes.Template | None = None
    rebound: set[str] = field(default_factory=set)
    """Names that were set so far in the branches of the innermost `if` that is being walked, or outside of all."""

    def __post_init__(self) -> None:
        self.expressions = Expressions(self.text, self.names)

    @property
    def problems(self) -> list[Problem]:
        """The problems that `check` found."""
        return self.expressions.problems

    @property
    def variables(self) -> set[str]:
        """The inputs that the template reads."""
        return self.expressions.variables

    def check(self) -> None:
        """Walk the template once, and fill `problems`, `variables` and `tree`. A template that cannot be parsed, has
        more than MAX_MARKS (20,000) holes and statements or is nested too deeply becomes a problem, and `readable`
        False; nothing is raised."""
        if self.text.count("{{") + self.text.count("{%") > MAX_MARKS:
            said = f"the template has more than {MAX_MARKS:,} holes and statements"
            self.problems.append(Problem("LMP101", said, 0, fix="give the values as one list, and write a loop"))
            self.readable = False
            return
        try:
            tree = parse(self.text)
            if too_deep(tree):
                raise RecursionError
        except TemplateSyntaxError as error:
            from lmprog.compiler.templates.slips import slip

            self.problems.append(slip(self.text, error))
            self.readable = False
            return
        except RecursionError:
            self.problems.append(Problem("LMP101", "the template is nested too deeply", 0))
            self.readable = False
            return
        self.tree = tree
        self.problems.extend(unsafe_parts(self.text, tree, self.names))
        self._body(tree.body, dict(self.names))

    def _body(self, body: Iterable[nodes.Node], names: Names) -> None:
        for node in body:
            if isinstance(node, nodes.Output):
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        self.expressions.printed(part, self.expressions.type(part, names))
            elif isinstance(node, nodes.Assign):
                self._bind(node.target, self.expressions.type(node.node, names), names)
            elif isinstance(node, nodes.AssignBlock):
                self._body(node.body, dict(names))
                self._bind(node.target, self._through(node.filter, names), names)
            elif isinstance(node, nodes.If):
                self._if(node, names)
            elif isinstance(node, nodes.For):
                self._for(node, names)
            elif isinstance(node, nodes.With):
                inner = dict(names)
                for target, value in zip(node.targets, node.values, strict=True):
                    self._bind(target, self.expressions.type(value, names), inner)
                self._body(node.body, inner)
            elif isinstance(node, nodes.FilterBlock):
                self._body(node.body, dict(names))
                self.expressions.printed(node, self._through(node.filter, names))

    def _through(self, filter: nodes.Filter | None, names: Names) -> Type:
        """Return the type of a block of text after its filter: `str` for None, no filter."""
        return STR if filter is None else self.expressions.type(filter, names)

    def _bind(self, target: nodes.Node, kind: Type, names: Names) -> None:
        if isinstance(target, nodes.Name):
            self.expressions.see(target)
            names[target.name] = kind
            forget(target.name, names)
            self.rebound.add(target.name)
            self.expressions.maybe.discard(target.name)
        elif isinstance(target, nodes.Tuple):
            inner = kind.item if isinstance(kind, ListOf) else UNKNOWN
            for item in target.items:
                self._bind(item, inner, names)

    def _if(self, node: nodes.If, names: Names) -> None:
        branches: list[Names] = []
        rest = dict(names)
        around, self.rebound = self.rebound, set()
        tests: list[tuple[nodes.Node | None, list[nodes.Node]]] = [(node.test, node.body)]
        tests += [(other.test, other.body) for other in node.elif_]
        tests.append((None, node.else_))
        for test, body in tests:
            inner = dict(rest)
            if test is not None:
                self.expressions.type(test, inner)
                narrow(test, True, inner)
                narrow(test, False, rest)
            self._body(body, inner)
            branches.append(inner)
        for name in {name for branch in branches for name in branch}:
            if all(name in branch for branch in branches):
                if name not in names or name in self.rebound:
                    names[name] = _joined([branch[name] for branch in branches])
                    forget(name, names)
            elif name not in names:
                self.expressions.maybe.add(name)
        self.rebound |= around

    def _for(self, node: nodes.For, names: Names) -> None:
        kind = self.expressions.type(node.iter, names)
        word = dotted_name(node.iter)
        if isinstance(kind, Optional):
            self.expressions.say("LMP204", node, f"this loop runs over {kind}, which may be absent", word)
            kind = kind.inner
        if kind in (INT, FLOAT, BOOL):
            self.expressions.say("LMP203", node, f"a loop cannot run over {kind}", word)
        inner = dict(names)
        self._bind(node.target, item_of(kind), inner)
        if node.test is not None:
            self.expressions.type(node.test, inner)
            narrow(node.test, True, inner)
        inner["loop"] = _LOOP
        self._body(node.body, inner)
        self._body(node.else_, dict(names))
        self.expressions.maybe |= inner.keys() - names.keys()


def _joined(kinds: list[Type]) -> Type:
    found: Type | None = kinds[0]
    for kind in kinds[1:]:
        found = join(found, kind) if found is not None else None
    return found if found is not None else UNKNOWN
