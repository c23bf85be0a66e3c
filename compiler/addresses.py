"""Reading of where an LM is served: one address, several servers, and the place where they find adapters."""

from __future__ import annotations

from lmprog.compiler.backends import VLLM_PREFIX
from lmprog.compiler.draft import Draft
from lmprog.compiler.environment import setting
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import AdapterStore, Fleet
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence

FLEETS = (VLLM_PREFIX, "openai/")
"""Prefixes of the models that several servers may serve: those that are asked without litellm."""


def api_base(draft: Draft, node: Node | None, model: str, what: str) -> Expression | Fleet | None:
    """Return what the node `api_base` of an LM says: one address, as an expression over the environment, or a fleet of
    servers; None where it is absent (`node` None) or empty, and, with a finding, where it gives nothing that can be
    used.

    A fleet gets a finding, and is returned, where `model` is reached through litellm, which has one address. `what` names
    the LM in messages.
    """
    named = f"`api_base` of {what}"
    if not isinstance(node, Mapping | Sequence):
        return setting(draft, node, named)
    if not model.startswith(FLEETS):
        message = f"{named} names several servers, and {model} has one address"
        fix = f"write one address, or a model that lmprog asks itself: {VLLM_PREFIX}... or openai/..."
        draft.report.add("LMP101", node.place, message, fix=fix)
    if isinstance(node, Sequence):
        for item in node.items:
            if isinstance(item, Scalar) and item.value is None:
                draft.report.add("LMP101", item.place, f"an address of {named} is empty", fix="remove it")
        found = [setting(draft, item, named) for item in node.items]
        return Fleet(tuple(address for address in found if address is not None))
    file = node.get("discover")
    # The file need not be there yet: whatever starts the servers may write it.
    path = draft.reachable(file, f"`discover` of {named}", str(file.plain())) if file is not None else None
    return Fleet(discover=path) if path is not None else None


def adapter_store(draft: Draft, node: Node | None, model: str, what: str) -> AdapterStore | None:
    """Return the place to which adapters are copied for the servers of an LM, from the node `adapter_store`; None where
    that is absent (`node` None) or lacks `write` or `read` (which the shape of the spec reports), and, with a finding,
    beside a `model` that vLLM does not serve, or outside of the folder that an untrusted program may read.

    A folder without `://` is resolved from the spec's own. `what` names the LM in messages.
    """
    if node is None:
        return None
    if not model.startswith(VLLM_PREFIX):
        message = f"nothing reads `adapter_store` of {what}: {model} is not served by vLLM"
        draft.report.add("LMP202", node.place, message, fix=f"remove it, or write model: {VLLM_PREFIX}...")
        return None
    write, read = (node.get("write"), node.get("read")) if isinstance(node, Mapping) else (node, node)
    if write is None or read is None:
        return None
    text = str(write.plain())
    if "://" not in text:
        folder = draft.reachable(write, f"`adapter_store` of {what}", text)
        if folder is None:
            return None
        text = str(folder)
    return AdapterStore(text.rstrip("/"), (text if read is write else str(read.plain())).rstrip("/"))
