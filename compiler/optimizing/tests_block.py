"""The `tests` block: examples with what must hold of their outputs, and gates that a score has to reach."""

from __future__ import annotations

import os

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.findings.finding import nearest, suggestion
from lmprog.compiler.optimizing.expected import read_expected
from lmprog.compiler.optimizing.optimize_block import compares, data_lost, named
from lmprog.compiler.optimizing.trace_types import columns, trace_of
from lmprog.compiler.prompts.messages import IMAGES
from lmprog.compiler.spec_tests import ExampleTest, Expected, GateTest, exact
from lmprog.compiler.steps.scope import Scope
from lmprog.compiler.types.lattice import BOOL, UNKNOWN, Object, Optional, mismatch
from lmprog.compiler.types.meant import meant
from lmprog.compiler.yaml.source import Mapping, Node, Sequence

REMOTE = ("http://", "https://", "data:")
"""Prefixes of image addresses that are not files."""
OF_EXAMPLES = ("expect", "assert", "metric")
"""The keys of an example that say what must hold; it needs one of them."""


def read_tests(draft: Draft) -> tuple[ExampleTest | GateTest, ...]:
    """Return the tests of the program in order, examples and gates; one that is both or neither, or lacks a key, is left
    out, with a finding."""
    node = draft.root.get("tests")
    found: list[ExampleTest | GateTest] = []
    if isinstance(node, Sequence):
        entries = [(f"test {position}", entry) for position, entry in enumerate(node.items)]
    else:
        entries = list(node.entries.items()) if isinstance(node, Mapping) else []
    for name, entry in entries:
        if isinstance(entry, Mapping):
            test = _test(draft, entry.value("name", name), entry)
            if test is not None:
                found.append(test)
    return tuple(found)


def _test(draft: Draft, name: str, node: Mapping) -> ExampleTest | GateTest | None:
    """Return the example or gate that an entry of `tests` writes; None, with a finding, where it is both or neither, or
    lacks a key."""
    written = node.entries.keys()
    gate, example = "data" in written, bool({"inputs", "expect", "assert"} & written)
    if (gate and example) or not (gate or example or {"metric", "at_least"} & written):
        message = f"the test `{name}` is either an example (inputs, expect) or a gate (data, metric, at_least)"
        draft.report.add("LMP101", node.place, message)
        return None
    needed = ("inputs",) if example else ("data", "metric", "at_least")
    missing = [key for key in needed if key not in written]
    if example and ("metric" in written) != ("at_least" in written):
        missing += [key for key in ("metric", "at_least") if key not in written]
    elif example and not set(OF_EXAMPLES) & {*written, *node.dropped}:
        missing.append("expect")
    if missing:
        if not set(missing) & node.dropped:
            draft.report.add("LMP101", node.place, f"the test `{name}` needs `{missing[0]}`", fix=f"add {missing[0]}:")
        return None
    return _example(draft, name, node) if example else _gate(draft, name, node)


def _example(draft: Draft, name: str, node: Mapping) -> ExampleTest:
    inputs, expect = node.map("inputs"), node.map("expect")
    assert inputs is not None
    _inputs(draft, name, inputs)
    expected = _expected(draft, name, expect) if expect is not None else {}
    metric = node.value("metric")
    if metric is not None:
        _scored(draft, name, node, {*inputs.entries, *exact(expected)})
    asserts = _asserts(draft, name, node.get("assert"))
    return ExampleTest(name, inputs.plain(), expected, asserts, metric, float(node.value("at_least", 0.0)))


def _inputs(draft: Draft, name: str, inputs: Mapping) -> None:
    """Report inputs of an example that the program does not have, that do not fit their types, or that are missing."""
    for key, value in inputs.entries.items():
        field = draft.inputs.get(key)
        if field is None:
            message = f"the test `{name}` gives the input `{key}`, which the program does not have"
            fix = suggestion(key, draft.inputs, "inputs")
            draft.report.add("LMP203", inputs.key_place(key), message, fix=fix)
        elif wrong := mismatch(value.plain(), field.type):
            message = f"input `{key}` of the test `{name}`: {wrong}"
            draft.report.add("LMP203", value.place, message, fix=meant(value.plain(), field.type))
        elif field.type in IMAGES:
            _images(draft, value, f"input `{key}` of the test `{name}`")
    absent = [
        key for key, field in draft.inputs.items()
        if not field.has_default and key not in inputs.entries and not isinstance(field.type, Optional)
        and not any(nearest(other, [key]) for other in inputs.entries if other not in draft.inputs)
    ]  # fmt: skip
    if absent:
        message = f"the test `{name}` lacks the input `{absent[0]}`"
        draft.report.add("LMP203", inputs.place, message, fix=f"add {absent[0]}: to its inputs")


def _images(draft: Draft, node: Node, what: str) -> None:
    """Report image files in an input that do not exist; their paths start at the working directory."""
    for entry in node.items if isinstance(node, Sequence) else (node,):
        path = entry.plain()
        if isinstance(path, str) and not path.startswith(REMOTE) and not os.path.isfile(path):
            draft.report.add("LMP103", entry.place, f"{what} names the image {path}, which does not exist")


def _expected(draft: Draft, name: str, expect: Mapping) -> dict[str, Expected]:
    """Return the checks of an example's `expect` by output; an output that the program does not have is reported."""
    found = {}
    for key, value in expect.entries.items():
        if key in draft.output_types:
            found[key] = read_expected(draft, value, draft.output_types[key], f"output `{key}` of the test `{name}`")
        elif not draft.dropped_top("outputs"):
            message = f"the test `{name}` expects the output `{key}`, which the program does not have"
            fix = suggestion(key, draft.output_types, "outputs")
            draft.report.add("LMP203", expect.key_place(key), message, fix=fix)
    return found


def _asserts(draft: Draft, name: str, node: Node | None) -> tuple[Expression, ...]:
    """Return the conditions under `assert`, one or a list (None: none); one that reads nothing of a run is reported."""
    scope = Scope(
        {
            "inputs": Object(tuple((id, field.type) for id, field in draft.inputs.items())),
            "outputs": UNKNOWN if draft.dropped_top("outputs") else Object(tuple(draft.output_types.items())),
            "vars": draft.var_types,
            "trace": trace_of(draft),
        },
        where="in a test",
    )
    found = []
    for entry in node.items if isinstance(node, Sequence) else (node,):
        what = f"`assert` of the test `{name}`"
        expression = draft.binder.bare(entry, scope, what)
        if expression is not None and entry is not None and draft.binder.fits(expression, BOOL, entry, what):
            if not any(read[0] != "vars" for read in expression.references):
                message = f"{what} reads nothing of a run, so that it says nothing about one"
                draft.report.add("LMP206", entry.place, message, fix="read outputs, inputs or trace")
            found.append(expression)
    return tuple(found)


def _gate(draft: Draft, name: str, node: Mapping) -> GateTest:
    split, metric = node.value("data"), node.value("metric")
    if split not in draft.data and not data_lost(draft, split):
        message = f"the test `{name}` needs the {split} data, which the program does not have"
        fix = suggestion(split, draft.data, "data") if draft.data else f"add data: {split}:"
        draft.report.add("LMP103", node.entries["data"].place, message, fix=fix)
    _scored(draft, name, node, None)
    return GateTest(name, split, metric, float(node.value("at_least")))


def _scored(draft: Draft, name: str, node: Mapping, given: set[str] | None) -> None:
    """Report the metric of the test `name` where it does not exist, compares runs, reads columns that an example does not
    have, or cannot give a score of `at_least`.

    `given` are the inputs and outputs by which an example fills `row`; None for a gate, whose split has checks of its own.
    """
    metric = node.value("metric")
    named(draft, node, "metric", metric, draft.metrics, "metrics")
    compares(draft, node, "metric", metric)
    if metric not in draft.metrics:
        return
    _in_range(draft, name, node, metric, float(node.value("at_least")))
    for column in sorted(columns(draft.metrics, metric) - given) if given is not None else ():
        message = f"the metric `{metric}` reads row.{column}, and the test `{name}` gives no {column}"
        fix = f"expect {column} to be equal to a value, or write a gate: data, metric, at_least"
        draft.report.add("LMP603", node.entries["metric"].place, message, fix=fix)


def _in_range(draft: Draft, name: str, node: Mapping, metric: str, wanted: float) -> None:
    """Report a score `wanted` that is above the range of the metric, and warn of one that every run reaches."""
    low, high = draft.metrics[metric].range
    place = node.entries["at_least"].place
    if wanted > high:
        fix = f"write {wanted / 100:g}" if low <= wanted / 100 <= high else None
        message = f"the test `{name}` wants at least {wanted:g}, and `{metric}` is at most {high:g}"
        draft.report.add("LMP603", place, message, fix=fix)
    elif wanted < low or (wanted == low and low != high):
        message = f"the test `{name}` always passes: `{metric}` is at least {low:g}"
        draft.report.add("LMP603", place, message, severity="warning")
