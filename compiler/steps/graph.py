"""Compilation of `steps:`: calls with typed arguments, edges from references, and an order that respects them."""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import dataclass, field, replace
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import Expression, parsed
from lmprog.compiler.expressions.guards import conjuncts, guards, subsets
from lmprog.compiler.expressions.parser import ExpressionError, parse
from lmprog.compiler.expressions.types import Typer
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.plan import Foreach, Repeat, Step, Value
from lmprog.compiler.shape import WRAPPED
from lmprog.compiler.steps.calls import Callee, arguments, callee, unchecked
from lmprog.compiler.steps.loops import bound_of, starts_of, state_of, updates_of
from lmprog.compiler.steps.order import in_order
from lmprog.compiler.steps.scope import LOOP, Scope, StepTypes
from lmprog.compiler.types.lattice import BOOL, JSON, UNKNOWN, ListOf, Object, Optional, Type, Unknown, join
from lmprog.compiler.types.syntax import TypeReader
from lmprog.compiler.yaml.source import Mapping, Node, Scalar

VERBS = ("module", "tool", "program", "value", "repeat")


@dataclass
class Site:
    """A step while it is compiled: its node, the scope around it, its level, and the target of its call (`callee`, None: a
    value or a loop, or a target with a finding).

    `path` has the ids of the loops around it and its own, joined by dots. `busy` is True while its type is computed, so
    that steps which read each other in a circle have the type UNKNOWN.
    """

    id: str
    path: str
    node: Mapping
    scope: Scope
    level: Level
    callee: Callee | None = None
    value: Type | None = None
    """The type of a `value` step, once known."""
    busy: bool = False


@dataclass
class Level:
    """The steps of one level: those of the program, or those inside one loop, as `sites` by id; `types` computes the
    types of their outputs.
    """

    types: StepTypes
    sites: dict[str, Site] = field(default_factory=dict)
    guarded: dict[frozenset[str], set[str]] = field(default_factory=dict)
    """The ids of the steps with an equal `when`, by its parts that `and` joins."""


class GraphBuilder:
    """The compiler of the steps of one program; mistakes go to the report of its draft."""

    def __init__(self, draft: Draft, types: TypeReader) -> None:
        self.draft, self.report, self.binder, self.types = draft, draft.report, draft.binder, types

    def build(self, node: Mapping, scope: Scope) -> tuple[tuple[Step, ...], StepTypes]:
        """Return the steps that the mapping `node` holds, in an order that respects their edges, and the types of their
        outputs; `scope` has the names around them, without steps. Mistakes become findings (a step whose action cannot
        be read has None in its place), and the nodes and places of the steps are noted in the draft."""
        level = self._level(node, scope, None, "")
        return self._steps(level), level.types

    # levels and types, before any expression is typed

    def _level(self, node: Mapping, scope: Scope, outer: StepTypes | None, path: str) -> Level:
        """Return the steps of one level, none of whose expressions is read yet; `outer` has those around a loop (None:
        the top), and `path` is put before the ids."""
        level = Level(StepTypes(outer))
        inside = replace(scope, steps=level.types)
        for id in node.dropped:
            level.types.own[id] = _unknown
        for id, entry in node.entries.items():
            if not isinstance(entry, Mapping):
                continue
            if outer is not None and outer.has(id):
                message = f"the step `{id}` has the id of a step around its loop"
                self.report.add("LMP102", node.key_place(id), message, fix="rename it")
            # A `foreach` that was left out has its finding: what its step reads of it has none of its own.
            around = inside.having(item=UNKNOWN, loop=LOOP) if "foreach" in entry.dropped else inside
            site = Site(id, f"{path}{id}", entry, around, level)
            level.sites[id] = site
            level.types.own[id] = lambda site=site: self._outputs(site)  # type: ignore[misc]
            self.draft.step_nodes[site.path] = entry
            self.draft.step_keys[site.path] = node.key_place(id)
            when = _text(entry.get("when"))
            if when is not None:
                level.guarded.setdefault(conjuncts(when), set()).add(id)
            body = entry.map("steps")
            for inner in body.entries if body else ():
                level.types.inner[inner] = id
        for site in level.sites.values():
            site.callee = callee(self.draft, site.path, site.node)
        return level

    def _fields(self, site: Site) -> Map[str, Type] | None:
        """Return the types of the fields of one call of the step, of its value or its state; None where the target of the
        call has a finding."""
        if site.node.get("repeat") is not None:
            return {name: field.type for name, field in state_of(self.types, site.node, site.id).items()}
        if site.node.get("value") is not None:
            return {"value": self._value_type(site)}
        return site.callee.outputs if site.callee else None

    def _value_type(self, site: Site) -> Type:
        """Return the type of a `value` step, computed once and without findings; UNKNOWN within a circle."""
        if site.value is not None:
            return site.value
        if site.busy:
            return UNKNOWN
        site.busy = True
        node = site.node.entries["value"]
        kind: Type = UNKNOWN
        if isinstance(node, Scalar) and isinstance(node.value, str):
            wrapped = WRAPPED.match(node.value)
            try:
                kind = Typer(self._within(site)).type(parse(wrapped[1] if wrapped else node.value))
            except ExpressionError:
                kind = UNKNOWN
        else:
            quiet = replace(self.binder, report=type(self.report)(), reads=set())
            expression = quiet.written(node, self._within(site), "value")
            kind = expression.type if expression else UNKNOWN
        for key in ("else", "on_error"):
            kind = self._widened(site, key, kind)
        site.value, site.busy = kind, False
        return kind

    def _widened(self, site: Site, key: str, kind: Type) -> Type:
        """Return the type `kind` of a `value` step, widened so that it takes the value under `key` (`else` or `on_error`) too:
        of the texts 'a' and 'b' an enum of both. It stays as it is where nothing is written there or no type takes both."""
        given = site.node.map(key)
        node = given.get("value") if given else None
        if node is None:
            return kind
        quiet = replace(self.binder, report=type(self.report)(), reads=set())
        other = quiet.written(node, site.scope, key)
        return (join(kind, other.type) or kind) if other is not None else kind

    def _outputs(self, site: Site) -> Type:
        """Return the type of `steps.<id>` as other steps read it: an object of lists for `foreach`, of optional fields for
        `when` without `else`; UNKNOWN where the fields are not known."""
        fields = self._fields(site)
        if fields is None:
            return _unknown()
        many = site.node.get("foreach") is not None
        absent = site.node.get("when") is not None and site.node.get("else") is None
        return Object(
            tuple(
                (name, Optional(kind) if absent and not isinstance(kind, Optional | Unknown) else kind)
                for name, inner in fields.items()
                for kind in (ListOf(inner) if many else inner,)
            )
        )

    # scopes

    def _within(self, site: Site) -> Scope:
        """Return the scope of the parts of a step that run only if `when` is true; where `when` cannot be read, any
        optional value counts as present."""
        when = _text(site.node.get("when"))
        if when is None:
            return site.scope
        try:
            tree = parse(when)
            guard = Typer(site.scope)
            guard.type(tree)
        except ExpressionError:
            return replace(site.scope, lenient=True)
        if any(problem.code != "LMP206" for problem in guard.problems):
            return replace(site.scope, lenient=True)
        together = [site.level.guarded.get(parts) for parts in subsets(conjuncts(when))]
        scope = replace(site.scope, together=tuple(ids for ids in together if ids))
        return scope.given(guards(tree, True)).where_holds(parsed(when))

    # steps

    def _steps(self, level: Level) -> tuple[Step, ...]:
        steps = {id: self._step(site) for id, site in level.sites.items()}
        return in_order(self.draft, steps)

    def _step(self, site: Site) -> Step:
        node, what = site.node, f"step `{site.id}`"
        when = self.binder.bare(node.get("when"), site.scope, f"`when` of {what}")
        if when is not None:
            self.binder.fits(when, BOOL, node.entries["when"], f"`when` of {what}")
        scope = self._within(site)
        foreach, inner = self._foreach(site, scope)
        outputs = self._outputs(site)
        action: Any = None
        if node.get("repeat") is not None:
            action = self._repeat(site, scope)
        elif node.get("value") is not None:
            action = self._value(site, scope)
        elif site.callee is not None:
            given = arguments(self.draft, site.callee, node, inner, what)
            action = site.callee.call(given)
        else:
            unchecked(self.draft, node, inner, what)
        otherwise = self._values(site, "else", site.scope, foreach is not None)
        on_error = (
            self._values(site, "on_error", site.scope, foreach is not None)
            if node.get("on_error") is not None
            else None
        )
        if node.get("else") is not None and node.get("when") is None and "when" not in node.dropped:
            self.report.add("LMP101", node.key_place("else"), f"{what} has `else` without `when`", fix="add when:")
        self._needs(site)
        kinds = dict(outputs.fields) if isinstance(outputs, Object) else {}
        if node.get("else") is not None:
            kinds = {name: kind if name in otherwise else _optional(kind) for name, kind in kinds.items()}
        return Step(
            site.id,
            site.path,
            action,
            after=frozenset(node.value("needs", ())),
            when=when,
            otherwise=otherwise,
            outputs=kinds,
            foreach=foreach,
            retry=node.value("retry", 0),
            timeout=node.value("timeout"),
            on_error=on_error,
        )

    def _needs(self, site: Site) -> None:
        """Report ids under `needs` that are no steps of the same level."""
        listed = site.node.get("needs")
        for position, id in enumerate(site.node.value("needs", ())):
            if id not in site.level.types.own:
                place = listed.items[position].place  # type: ignore[union-attr]
                fix = suggestion(id, site.level.types.own, "steps")
                self.report.add("LMP201", place, f"step `{site.id}` needs `{id}`, which is no step beside it", fix=fix)

    def _value(self, site: Site, scope: Scope) -> Value | None:
        node, what = site.node.entries["value"], f"value of step `{site.id}`"
        bind = self.binder.bare if isinstance(node, Scalar) else self.binder.written
        expression = bind(node, scope, what)
        return None if expression is None else Value(expression)

    def _foreach(self, site: Site, scope: Scope) -> tuple[Foreach | None, Scope]:
        """Return the `foreach` of a step and the scope of its arguments, in which `item` and `loop` can be read. None stands
        for one whose list has a finding; a step without `foreach` has None and the scope itself, and its `at_most` or
        `max_parallel` is reported."""
        node = site.node.get("foreach")
        if node is None:
            for key in ("at_most", "max_parallel"):
                if site.node.get(key) is not None:
                    place = site.node.key_place(key)
                    self.report.add("LMP101", place, f"`{key}` of step `{site.id}` stands without `foreach`")
            return None, scope
        if site.node.get("value") is not None or site.node.get("repeat") is not None:
            message = f"`foreach` stands beside module, tool or program only, not in step `{site.id}`"
            self.report.add("LMP101", site.node.key_place("foreach"), message, fix="put the body into a program")
        what = f"`foreach` of step `{site.id}`"
        items = self.binder.bare(node, scope, what)
        kind: Type = UNKNOWN
        if items is not None:
            kind = items.type.item if isinstance(items.type, ListOf) else UNKNOWN
            if isinstance(items.type, Optional) or not isinstance(items.type, ListOf | Unknown):
                self.binder.fits(items, ListOf(JSON), node, what)
        inner = replace(scope.having(item=kind, loop=LOOP), count_known=True).where_holds(items)
        if items is None:
            return None, inner
        return Foreach(items, site.node.value("at_most"), site.node.value("max_parallel")), inner

    def _values(self, site: Site, key: str, scope: Scope, many: bool) -> dict[str, Expression]:
        """Return the expressions under `key` (`else` or `on_error`) by field; `many` is True for a step with `foreach`, whose
        fields are lists."""
        node = site.node.map(key)
        fields = self._fields(site)
        found: dict[str, Expression] = {}
        for name, entry in node.entries.items() if node else ():
            what = f"`{key}` of step `{site.id}`: `{name}`"
            expression = self.binder.written(entry, scope, what)
            if fields is not None and name not in fields:
                fix = suggestion(name, fields, "fields")
                message = f"step `{site.id}` has no field `{name}` that `{key}` could give"
                self.report.add("LMP203", node.key_place(name), message, fix=fix)  # type: ignore[union-attr]
                continue
            if expression is not None:
                wanted = fields[name] if fields is not None else UNKNOWN
                self.binder.fits(expression, ListOf(wanted) if many else wanted, entry, what)
                found[name] = expression
        return found

    # loops

    def _repeat(self, site: Site, scope: Scope) -> Repeat | None:
        node, what = site.node, f"loop `{site.id}`"
        written = node.entries["repeat"]
        until_node = written.get("until") if isinstance(written, Mapping) else None
        bound_node: Node | None = written.get("at_most") if isinstance(written, Mapping) else written
        bound = bound_of(self.draft, bound_node, written, scope, what)
        state = state_of(self.types, node, site.id)
        start = starts_of(self.draft, node, site.id, state, scope)
        body = node.map("steps")
        if body is None:
            if "steps" not in node.dropped:
                self.report.add("LMP101", node.place, f"{what} needs `steps`", fix="add steps:")
            return None
        kinds = Object(tuple((name, field.type) for name, field in state.items()))
        inner = replace(scope.having(state=kinds, loop=LOOP), count_known=until_node is None)
        level = self._level(body, inner, site.level.types, site.path + ".")
        steps = self._steps(level)
        after = replace(inner, steps=level.types)
        until = self.binder.bare(until_node, after, f"`until` of {what}")
        if until is not None and until_node is not None:
            self.binder.fits(until, BOOL, until_node, f"`until` of {what}")
        updates = updates_of(self.draft, node, site.id, state, after)
        if bound is None:
            return None
        return Repeat(bound, until, state, start, steps, updates)


def _optional(kind: Type) -> Type:
    return kind if isinstance(kind, Optional | Unknown) else Optional(kind)


def _unknown() -> Type:
    """Return the type that stands for the fields of a step that has a finding of its own."""
    return UNKNOWN


def _text(node: Node | None) -> str | None:
    """Return the text of an expression without `${{ }}`; None for a node that is no text, and for None."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return None
    wrapped = WRAPPED.match(node.value)
    return (wrapped[1] if wrapped else node.value).strip()
