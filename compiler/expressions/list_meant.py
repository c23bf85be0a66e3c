"""The fix for a call of a function that takes a list, and is given something else."""

from __future__ import annotations

import ast

from lmprog.compiler.expressions.functions import FUNCTIONS
from lmprog.compiler.expressions.parser import dotted
from lmprog.compiler.types.lattice import STR, UNKNOWN, ListOf, Object, Type, without_none


def list_meant(node: ast.Call, kinds: list[Type]) -> str | None:
    """Return the fix for a call whose arguments of the types `kinds` do not fit: to name the field of a step, or to declare a
    list where a text is. None where a list in place of a step or text would not fit either.
    """
    typing = FUNCTIONS[node.func.id].typing  # type: ignore[attr-defined]
    for place, (argument, kind) in enumerate(zip(node.args, kinds, strict=True)):
        name = dotted(argument)
        if name is None or isinstance(typing([*kinds[:place], ListOf(UNKNOWN), *kinds[place + 1 :]]), str):
            continue
        if name[0] == "steps" and len(name) == 2 and isinstance(kind, Object):
            lists = [field for field, inner in kind.fields if isinstance(without_none(inner), ListOf)]
            return f"write {'.'.join(name)}.{(lists or ['<field>'])[0]}: a step is read by its fields"
        listed = typing([*kinds[:place], ListOf(STR), *kinds[place + 1 :]])
        if kind == STR and not isinstance(listed, str) and (name[0] == "inputs" or len(name) > 2):
            return f"write list[str] as the type of `{name[-1]}` where that is declared"
    return None
