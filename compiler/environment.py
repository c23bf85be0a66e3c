"""Settings that may come from the environment: texts in which `${{ env.NAME }}` may stand."""

from __future__ import annotations

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.steps.scope import Scope
from lmprog.compiler.types.lattice import JSON
from lmprog.compiler.yaml.source import Node, Scalar

ENVIRONMENT = Scope({"env": JSON}, where="in `lms`, `tools` and `export`")
"""The scope of settings, in which only `env` can be read. `env` has the type json, since any name may stand in it; what is
read from it is text."""


def setting(draft: Draft, node: Node | None, what: str) -> Expression | None:
    """Return a setting, such as an API key, as an expression over the environment (a constant where it is written out);
    None where it is absent (`node` None) or empty, and, with a finding, where it cannot be read. `what` names it in
    messages."""
    if node is None:
        return None
    if isinstance(node, Scalar) and node.value is None:
        return None
    return draft.binder.written(node, ENVIRONMENT, what)
