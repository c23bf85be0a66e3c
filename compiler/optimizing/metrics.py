"""Reading of `metrics:`: Python functions, judge programs, and arithmetic over other metrics."""

from __future__ import annotations

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.optimizing.trace_types import runs_type, trace_of
from lmprog.compiler.plan import Field, Metric, Plan
from lmprog.compiler.plugins import names, points
from lmprog.compiler.steps.calls import check_rebound, rebind
from lmprog.compiler.steps.scope import Scope
from lmprog.compiler.tools.declared import read_reference
from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    INT,
    STR,
    UNKNOWN,
    Object,
    Type,
    Unknown,
    assignable,
    without_none,
)
from lmprog.compiler.types.python_reference import PythonReference
from lmprog.compiler.types.signatures import Signature
from lmprog.compiler.yaml.source import Mapping, Scalar

FEEDBACK = "feedback"
"""The name of a judge's output that explains the score in words."""
GROUP = "lmprog.metrics"
"""The group of entry points by which other packages offer functions as metrics."""


def read_metrics(draft: Draft, row: Type) -> dict[str, Metric]:
    """Return the metrics of the program by id; `row` is the type of a data row. A metric with mistakes gets findings, and
    has no function, judge or value if that could not be read."""
    node = draft.root.map("metrics")
    ids = list(node.entries) if node else []
    scope = Scope(
        {
            "inputs": Object(tuple((name, field.type) for name, field in draft.inputs.items())),
            "outputs": UNKNOWN if draft.dropped_top("outputs") else Object(tuple(draft.output_types.items())),
            "row": row,
            "metrics": Object(tuple((id, FLOAT) for id in ids)),
            "vars": draft.var_types,
            "trace": trace_of(draft),
            "runs": runs_type(draft.output_types, not draft.dropped_top("outputs")),
        },
        where="in a metric",
    )
    found = {}
    for id in ids:
        entry = node.get(id) if node else None
        if isinstance(entry, Mapping):
            found[id] = _metric(draft, id, entry, scope)
    _circles(draft, found)
    return found


def _metric(draft: Draft, id: str, node: Mapping, scope: Scope) -> Metric:
    """Return the metric `id` that `node` writes; `scope` has the names that its expressions may read."""
    kind = next((kind for kind in ("python", "program", "value", "metric") if kind in node.entries), "value")
    given = _arguments(draft, id, node, scope)
    low, high = _range(draft, id, node)
    what = f"metric `{id}`"
    entry = node.get(kind)
    by: PythonReference | Plan | Expression | None = None
    if kind == "value" and entry is not None:
        value = draft.binder.bare(entry, scope, what)
        if value is not None and (value.type == BOOL or draft.binder.fits(value, FLOAT, entry, what, "LMP603")):
            by = value
    elif kind == "program" and isinstance(entry, Scalar):
        by = _judge(draft, id, node, entry, given)
    elif isinstance(entry, Scalar):
        # A metric of another package is a Python function from here on.
        found = read_reference(draft, entry, what) if kind == "python" else _registered(draft, entry, what)
        if found is not None:
            by, signature = found
            if signature is not None:
                _python(draft, id, node, given, signature)
    return Metric(id, by, given, range=(low, high), on_error=node.value("on_error"))


def _registered(draft: Draft, node: Scalar, what: str) -> tuple[PythonReference, Signature | None] | None:
    """Return the function that another package registers as the metric that `node` names, and its signature where it is
    known; None, with a finding, where no package registers one."""
    place = points(GROUP).get(node.value)
    if place is None:
        fix = suggestion(node.value, names(GROUP), "metrics") if names(GROUP) else "install the package that brings it"
        draft.report.add("LMP103", node.place, f"{what}: no package has a metric `{node.value}`", fix=fix)
        return None
    return read_reference(draft, Scalar(node.source, node.line, node.column, place.value, node.text, node.style), what)


def _arguments(draft: Draft, id: str, node: Mapping, scope: Scope) -> dict[str, Expression]:
    """Return the expressions under `with` by argument, without those that cannot be read."""
    written = node.map("with")
    found = {}
    for name, entry in written.entries.items() if written else ():
        expression = draft.binder.written(entry, scope, f"argument `{name}` of metric `{id}`")
        if expression is not None:
            found[name] = expression
    return found


def _range(draft: Draft, id: str, node: Mapping) -> tuple[float, float]:
    """Return the lowest and highest score; 0 and 1 where no range is written, or it has a finding."""
    values = node.value("range", [0.0, 1.0])
    if len(values) != 2 or not values[0] < values[1]:
        message = f"the range of metric `{id}` must be [lowest, highest]"
        draft.report.add("LMP101", node.entries["range"].place, message)
        return 0.0, 1.0
    return float(values[0]), float(values[1])


def _python(draft: Draft, id: str, node: Mapping, given: dict[str, Expression], signature: Signature) -> None:
    _match(draft, id, node, given, dict(signature.parameters), signature.open)
    key, returns = "python" if "python" in node.entries else "metric", signature.returns
    if not signature.returns_score and not isinstance(returns, Unknown) and returns not in (FLOAT, BOOL, INT):
        message = f"metric `{id}` must return float, bool or lmprog.Score, and `{node.value(key)}` returns {returns}"
        draft.report.add("LMP603", node.entries[key].place, message)


def _match(
    draft: Draft,
    id: str,
    node: Mapping,
    given: dict[str, Expression],
    parameters: dict[str, Field],
    is_open: bool,
) -> None:
    written = node.map("with")
    for name, expression in given.items():
        parameter = parameters.get(name)
        assert written is not None
        if parameter is None:
            if not is_open:
                message = f"metric `{id}` has no parameter `{name}`"
                fix = suggestion(name, parameters, "parameters")
                draft.report.add("LMP603", written.key_place(name), message, fix=fix)
        else:
            what = f"parameter `{name}` of metric `{id}`"
            draft.binder.fits(expression, parameter.type, written.entries[name], what, "LMP603")
    if "with" in node.dropped:
        return
    strange = [name for name in given if name not in parameters]
    missing = [
        name
        for name, parameter in parameters.items()
        if not parameter.has_default and not (written and (name in written.entries or name in written.dropped))
    ]
    if missing and not strange:
        place = node.key_place("with") if written else draft.key("metrics", id)
        message = f"metric `{id}` needs the parameter `{missing[0]}`"
        draft.report.add("LMP603", place, message, fix=f"add {missing[0]}: to with:")


def _judge(draft: Draft, id: str, node: Mapping, named: Scalar, given: dict[str, Expression]) -> Plan | None:
    """Return the plan of the judge that `named` names, with the LMs under `lms`; None, with a finding, where it cannot be
    compiled. Arguments and outputs that do not fit are reported."""
    file = draft.file(named, f"metric `{id}`")
    plan = draft.compile(file, named.place, f"metric `{id}`") if file is not None else None
    check_rebound(draft, plan, node.map("lms"), f"metric `{id}`")
    if plan is None:
        return None
    _match(draft, id, node, given, dict(plan.inputs), False)
    kinds = {name: kind for name, kind in plan.output_types.items() if name != FEEDBACK}
    words = without_none(plan.output_types.get(FEEDBACK, STR))
    numeric = [kind for kind in kinds.values() if assignable(kind, FLOAT) or kind in (BOOL, UNKNOWN)]
    if len(numeric) != 1 or len(kinds) != 1 or words not in (STR, UNKNOWN):
        outputs = ", ".join(f"{name}: {kind}" for name, kind in plan.output_types.items())
        message = (
            f"a judge has one numeric output, and may have a str `{FEEDBACK}`; {named.value} has {outputs or 'none'}"
        )
        fix = "name them under `outputs` of the judge, the text that explains the score as `feedback`"
        draft.report.add("LMP603", named.place, message, fix=fix)
    return rebind(draft, plan, node.map("lms"))


def _circles(draft: Draft, metrics: dict[str, Metric]) -> None:
    """Report metrics that read each other in a circle: at least one circle where there are any."""
    edges = {id: [other for other in sorted(metric.metrics) if other in metrics] for id, metric in metrics.items()}
    # What is left reads something that is left, so that each way along it ends in a circle.
    while (left := {id for id, read in edges.items() if not edges.keys().isdisjoint(read)}) != edges.keys():
        edges = {id: read for id, read in edges.items() if id in left}
    done: set[str] = set()
    for start in edges:
        trail: list[str] = []
        id = start
        while id not in trail and id not in done:
            trail.append(id)
            id = next(other for other in edges[id] if other in edges)
        if id in trail:
            circle = (*trail[trail.index(id) :], id)
            draft.report.add("LMP207", draft.key("metrics", id), "these metrics read each other", path=circle)
        done.update(trail)
