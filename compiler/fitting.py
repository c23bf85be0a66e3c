"""The check of a node against its shape.

`fit(shape, node, report, what)` returns the node without the parts that do not fit (each of which has its finding), or
None where nothing is left, so that one mistake never hides another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from lmprog.compiler.findings.finding import Report, nearest, suggestion
from lmprog.compiler.findings.other_words import PARAMETERS, meant_key, meant_number
from lmprog.compiler.plugins import PluginFailed
from lmprog.compiler.shape import (
    IDENTIFIER,
    Anything,
    Boolean,
    Choice,
    Either,
    Expr,
    Lazy,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Record,
    Shape,
    Text,
)
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence


def fit(shape: Shape, node: Node, report: Report, what: str) -> Node | None:
    """Return `node` itself where all of it has the shape, else a copy without the parts that do not, each of which gets a
    finding; None where the whole does not have it. `what` names the place in messages.

    Keys that were left out are in `dropped` of the copied mapping. The value of a misspelt key stands in the copy under
    the key that was probably meant.
    """
    while isinstance(shape, Lazy):
        shape = shape.shape()
    return _FIT[type(shape)](shape, node, report, what)


def _wrong(report: Report, node: Node, what: str, wanted: str, fix: str | None = None) -> None:
    report.add("LMP101", node.place, f"{what} must be {wanted}, not {_kind(node)}", fix=fix)


def _kind(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    value = node.plain()
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {_short(str(value))}"
    return f"`{_short(value)}`"


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _text(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        quote = isinstance(node, Scalar) and node.value is not None
        _wrong(report, node, what, "text", f'write "{node.text}"' if quote else None)  # type: ignore[attr-defined]
        return None
    if shape.pattern and not re.search(shape.pattern, node.value):
        _wrong(report, node, what, shape.must)
        return None
    return node


def _number(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, str) and value in shape.words:
        return node
    wanted = "a whole number" if shape.whole else "a number"
    fits = isinstance(value, int if shape.whole else int | float) and not isinstance(value, bool)
    if fits and value is not None and not _is_finite(value):
        fits, wanted = False, f"{wanted} below 1e308"
    elif fits and shape.least is not None and value < shape.least:
        fits, wanted = False, f"{wanted} of at least {shape.least:g}"
    elif fits and shape.above is not None and value <= shape.above:
        fits, wanted = False, f"{wanted} above {shape.above:g}"
    elif fits and shape.most is not None and value > shape.most:
        fits, wanted = False, f"{wanted} of at most {shape.most:g}"
    if not fits:
        meant = meant_number(value, shape.about, shape.whole) if isinstance(value, str) else None
        _wrong(report, node, what, " or ".join([*shape.words, wanted]), f"write {meant}" if meant else None)
        return None
    return node


def _is_finite(number: float) -> bool:
    """Return whether a number is neither NaN nor beyond the range of a float, which a whole number can be too."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _boolean(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    if not isinstance(node, Scalar) or not isinstance(node.value, bool):
        yes = isinstance(node, Scalar) and node.text.lower() in ("yes", "on")
        no = isinstance(node, Scalar) and node.text.lower() in ("no", "off")
        _wrong(report, node, what, "true or false", f"write {'true' if yes else 'false'}" if yes or no else None)
        return None
    return node


def _choice(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    value = node.value if isinstance(node, Scalar) else None
    if value not in shape.words:
        close = nearest(value, shape.words) if isinstance(value, str) else None
        wanted = " or ".join(shape.words)
        _wrong(report, node, what, wanted, f"did you mean `{close}`?" if close else None)
        return None
    return node


def _expr(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    if not isinstance(node, Scalar) or node.value is None:
        _wrong(report, node, what, "an expression")
        return None
    return node


def _anything(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    return node


def _list(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    if not isinstance(node, Sequence):
        _wrong(report, node, what, "a list", "put it into [ ]" if isinstance(node, Scalar) else None)
        return None
    if len(node.items) < shape.least:
        report.add("LMP101", node.place, f"{what} needs at least {shape.least} item(s)")
        return None
    items = [fit(shape.item, item, report, f"item {i} of {what}") for i, item in enumerate(node.items)]
    if all(new is old for new, old in zip(items, node.items, strict=True)):
        return node
    return Sequence(node.source, node.line, node.column, [item for item in items if item is not None])


def _map(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    if not isinstance(node, Mapping):
        _wrong(report, node, what, "a mapping")
        return None
    changed = node
    for key, value in node.entries.items():
        if not shape.free and not IDENTIFIER.match(key):
            report.add(
                "LMP101",
                node.key_place(key),
                f"`{key}` cannot name a {shape.what}: a name has letters, digits and _, and starts with no digit",
                fix=f"write {re.sub(r'[^A-Za-z0-9_]', '_', key).lstrip('0123456789') or 'a_name'}",
            )
            changed = _without(changed, node, key)
            continue
        changed = _fit_entry(shape.value, node, changed, key, value, report, f"{shape.what} `{key}`")
    return changed


def _without(changed: Mapping, node: Mapping, key: str) -> Mapping:
    if changed is node:
        changed = node.copy()
    changed.entries.pop(key, None)
    changed.dropped |= {key}
    return changed


def _fit_entry(
    shape: Shape, node: Mapping, changed: Mapping, key: str, value: Node, report: Report, what: str
) -> Mapping:
    new = fit(shape, value, report, what)
    if new is value:
        return changed
    if new is None:
        report.lost.append(value)
        return _without(changed, node, key)
    if changed is node:
        changed = node.copy()
    changed.entries[key] = new
    return changed


def _record(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    if not isinstance(node, Mapping):
        _wrong(report, node, what, "a mapping", shape.instead)
        return None
    changed = node
    if shape.others is not None:

        def broken(key: str, error: PluginFailed) -> None:
            report.add(
                "LMP103", node.key_place(key), f"`{key}` of {what}: {error}", fix="repair the package, or remove it"
            )

        shape = shape.having(node.entries, broken)
    for key, value in node.entries.items():
        known = shape.keys.get(key)
        if known is None:
            meant = _unknown_key(shape, node, key, report, what)
            changed = _without(changed, node, key)
            if meant is not None and meant not in changed.entries:
                # What follows from the slip is not worth a word: go on as if the key had been meant.
                changed.entries[meant], changed.keys[meant] = value, node.keys[key]
                changed = _fit_entry(shape.keys[meant], node, changed, meant, value, report, f"`{meant}` of {what}")
        else:
            changed = _fit_entry(known, node, changed, key, value, report, f"`{key}` of {what}")
    for key in shape.required:
        if key not in changed.entries and key not in node.entries:
            report.add("LMP101", node.place, f"{what} needs the key `{key}`", fix=f"add {key}:")
            changed = _without(changed, node, key)
    if shape.one_of:
        written = [key for key in shape.one_of if key in node.entries or key in changed.entries]
        if len(written) != 1:
            said = " and ".join(f"`{key}`" for key in written) or "none of them"
            place = changed.key_place(written[1]) if written else node.place
            guessed = not written and changed.dropped - set(shape.keys)
            if not guessed:
                report.add("LMP101", place, f"{what} needs exactly one of {', '.join(shape.one_of)}, and has {said}")
            for key in written:
                changed = _without(changed, node, key)
        for key in changed.entries.keys() & shape.only.keys() if len(written) == 1 else ():
            if written[0] not in shape.only[key]:
                message = f"`{key}` of {what} has no meaning beside `{written[0]}`"
                report.add(
                    "LMP101", node.key_place(key), message, fix=f"it stands beside {' or '.join(shape.only[key])}"
                )
                report.lost.append(changed.entries[key])
                changed = _without(changed, node, key)
    return changed


def _unknown_key(shape: Record, node: Mapping, key: str, report: Report, what: str) -> str | None:
    """Report a key that the record does not have; return the key that was probably meant, of those that are not written,
    or None."""
    place = node.key_place(key)
    known = [name for name in shape.keys if name not in node.entries]
    close = nearest(key, known)
    meant = close or meant_key(key, known)
    # Another word may mean a little more or less, as `max_retries` counts no first try: it is not replaced by `--fix`.
    fix = f"did you mean `{close}`?" if close else f"that is `{meant}` here" if meant else None
    if meant is None and key in PARAMETERS and "params" in shape.keys:
        fix = f"write it below `params`: params: {{{key}: ...}}"
    fix = fix or suggestion(key, known or shape.keys, "further keys" if known else "keys")
    report.add("LMP101", place, f"{what} has no key `{key}`", fix=fix)
    return meant


def _either(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    if isinstance(node, Mapping):
        chosen = shape.mapping
    elif isinstance(node, Sequence):
        chosen = shape.sequence
    else:
        chosen = shape.scalar
    if chosen is None:
        parts = {"a single value": shape.scalar, "a list": shape.sequence, "a mapping": shape.mapping}
        wanted = " or ".join(name for name, part in parts.items() if part is not None)
        _wrong(report, node, what, wanted, shape.instead)
        return None
    return fit(chosen, node, report, what)


def _nullable(shape: Any, node: Node, report: Report, what: str) -> Node | None:
    if isinstance(node, Scalar) and node.value is None:
        return node
    return fit(shape.shape, node, report, what)


_FIT: dict[type[Shape], Callable[[Any, Node, Report, str], Node | None]] = {
    Text: _text,
    Number: _number,
    Boolean: _boolean,
    Choice: _choice,
    Expr: _expr,
    Anything: _anything,
    ListOf: _list,
    MapOf: _map,
    Record: _record,
    Either: _either,
    Nullable: _nullable,
}
