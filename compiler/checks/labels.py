"""Values of an enum that a reply, or the prompt that lists them, does not keep apart (209)."""

from __future__ import annotations

from collections.abc import Iterator

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import shown_value
from lmprog.compiler.plan import Module
from lmprog.compiler.replies.spelling import MARKS, folded
from lmprog.compiler.types.lattice import Enum, ListOf, Object, Optional, Type

MAX_LABELS = 2_000
"""The most values of one enum that are compared; further ones are not looked at."""


def check(draft: Draft) -> None:
    """Report the enums in the outputs of modules with values that cannot be kept apart in a reply: an empty one, two that
    differ in case, blanks or punctuation alone, or one with a comma or line break where the prompt lists them by commas.
    The finding is LMP209."""
    for id, module in draft.modules.items():
        for name, field in module.outputs.items():
            place = draft.key("modules", id, "outputs", name)
            for kind in _enums(field.type):
                for problem, fix in _problems(module, kind):
                    message = f"the enum of output `{name}` of module `{id}` {problem}"
                    draft.report.add("LMP209", place, message, fix=fix)


def _enums(kind: Type) -> Iterator[Enum]:
    if isinstance(kind, Enum):
        yield kind
    elif isinstance(kind, Optional):
        yield from _enums(kind.inner)
    elif isinstance(kind, ListOf):
        yield from _enums(kind.item)
    elif isinstance(kind, Object):
        for _, inner in kind.fields:
            yield from _enums(inner)


def _problems(module: Module, kind: Enum) -> Iterator[tuple[str, str]]:
    values = kind.values[:MAX_LABELS]
    if any(not value.strip() for value in values):
        yield "has an empty value, which is how an empty reply is read", "give it a name, such as none"
    spelt: dict[str, str] = {}
    for value in values:
        word = folded(value.strip(MARKS))
        if word in spelt and word:
            pair = f"{shown_value(spelt[word])} and {shown_value(value)}"
            yield f"has {pair}, which differ in case, spaces or punctuation alone", "rename one of them"
            break
        spelt[word] = value
    mark = next((value for value in values if "," in value or "\n" in value), None)
    if mark is not None and module.format != "json":
        problem = f"has the value {shown_value(mark)}, and the prompt lists the values by commas"
        yield problem, "write `format: json`, which lists them in quotes, or the values without commas"
