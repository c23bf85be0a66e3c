"""Text from outside that reaches a module which can act (404), secrets in the file (405), agents with tools that do not
say whether they write (406), and keys of a provider that go to another server (407)."""

from __future__ import annotations

import math
import re
from collections import Counter

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Fleet, ModuleCall, Plan, ProgramCall, Step, Tool, ToolCall
from lmprog.compiler.provider_keys import key_sent_elsewhere
from lmprog.compiler.steps.parts import walk
from lmprog.compiler.tools.declared import effects_unsaid
from lmprog.compiler.tools.kinds import kind_of
from lmprog.compiler.trust.flow import Arrival, Flow, Policy
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence

_SHAPES = re.compile(
    r"(?:\b(?:sk-[A-Za-z0-9_-]{16,}|sk-ant-[A-Za-z0-9_-]{10,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}|hf_[A-Za-z0-9]{20,}|AIza[0-9A-Za-z_-]{30,}|xox[abpr]-[A-Za-z0-9-]{10,}"
    r"|gsk_[A-Za-z0-9]{20,}|glpat-[A-Za-z0-9_-]{16,}|r8_[A-Za-z0-9]{30,})|-----BEGIN [A-Z ]*PRIVATE KEY-----)"
)
_MIN_CHARACTERS = 15
"""The length of the shortest text that `_SHAPES` finds."""
_KEYS = re.compile(r"(?i)(?:^|[_-])(?:api[_-]?key|key|secret|token|password|passwd|authorization|credentials?)$")
_PLAIN = frozenset({"none", "empty", "null", "dummy", "test", "fake", "anything", "not-needed", "no-key", "local", "x"})


def check(draft: Draft, plan: Plan) -> None:
    """Report modules that read text from outside and can call a tool that writes (LMP404), secrets written into the spec
    (LMP405), tools of agents whose `effects` the spec does not say (LMP406), and LMs at an address of another than their
    provider, which is sent the provider's key of the environment (LMP407)."""
    _injection(draft, plan)
    _secrets(draft, draft.root, "", "")
    _unsaid_effects(draft, plan)
    _keys_elsewhere(draft)


def _injection(draft: Draft, plan: Plan) -> None:
    reported: set[str] = set()

    def arrives(arrival: Arrival) -> None:
        if arrival.module is None or arrival.tool is None or arrival.tool.effects != "write":
            return
        step, argument = arrival.outer
        if f"{step.path}.{arrival.tool.id}" in reported:
            return
        reported.add(f"{step.path}.{arrival.tool.id}")
        node = draft.step_nodes.get(step.path)
        given = node.map("with") if node is not None else None
        known = given is not None and argument in given.entries
        place = given.entries[argument].place if given is not None and known else draft.step_keys[step.path]
        message = f"text from outside reaches the module `{arrival.module.id}`, which can call `{arrival.tool.id}`"
        fix = "a text can hold orders: let a module without tools read it first, or take the tool away"
        draft.report.add("LMP404", place, message, path=(*arrival.trail, _acting(draft, arrival.tool)), fix=fix)

    if _can_write(plan):
        Flow(plan, Policy(arrives, source=_source), {}).run()
    for id, module in plan.modules.items():
        tools = [plan.tools[tool] for tool in module.tools if tool in plan.tools]
        reads = next((tool for tool in tools if kind_of(tool.kind).outside), None)
        writes = next((tool for tool in tools if tool.effects == "write" and tool is not reads), None)
        if reads is not None and writes is not None:
            message = f"module `{id}` reads text from outside with `{reads.id}` and can call `{writes.id}`"
            path = (f"{reads.id} (outside)", id, _acting(draft, writes))
            draft.report.add("LMP404", draft.key("modules", id, "tools"), message, path=path, fix="split the module")


def _unsaid_effects(draft: Draft, plan: Plan) -> None:
    """Report the tools of agents that do not say whether they change anything."""
    for id, module in plan.modules.items():
        listed = draft.node("modules", id, "tools")
        items = listed.items if isinstance(listed, Sequence) else ()
        for name in module.tools:
            if name in plan.tools and effects_unsaid(draft, plan.tools[name]):
                message = (
                    f"module `{id}` can call the Python tool `{name}`, and nothing says whether that changes anything: it "
                    "counts as writing"
                )
                place = next((item.place for item in items if item.plain() == name), draft.key("modules", id))
                draft.report.add("LMP406", place, message, fix="write effects: read, or effects: write, at the tool")


def _keys_elsewhere(draft: Draft) -> None:
    """Report an address of an LM that is written out, belongs to another than the provider, and stands without `api_key`."""
    for id, lm in draft.lms.items():
        if lm.api_key is not None or lm.api_base is None or lm.backend.local:
            continue
        addresses = lm.api_base.addresses if isinstance(lm.api_base, Fleet) else (lm.api_base,)
        for address in addresses:
            sent = key_sent_elsewhere(lm.model, str(address.evaluate({}))) if address.constant else None
            if sent is not None:
                message = f"LM `{id}` names no key, so that {sent[1]} is sent the key in {sent[0]}"
                fix = 'write api_key: "${{ env.NAME }}" with the key of that server, or api_key: none'
                draft.report.add("LMP407", draft.place("lms", id, "api_base"), message, fix=fix)
                break


def _acting(draft: Draft, tool: Tool) -> str:
    """Return the end of a path that leads to a tool which writes, or may."""
    unsaid = draft.tools.get(tool.id) is tool and effects_unsaid(draft, tool)
    return f"{tool.id} ({'may write' if unsaid else 'writes'})"


def _can_write(plan: Plan) -> bool:
    """Return whether a module of the program, or of one that it runs, has a tool that writes."""
    given = {tool for module in plan.modules.values() for tool in module.tools}
    if any(tool.effects == "write" for id, tool in plan.tools.items() if id in given):
        return True
    calls = (step.action for step in walk(plan.steps))
    return any(_can_write(call.plan) for call in calls if isinstance(call, ProgramCall))


def _source(plan: Plan, step: Step, output: str) -> str | None:
    """Return how a trail names a step whose outputs are text from outside: a tool that reads it, or an untrusted LM; None
    for other steps."""
    action = step.action
    if isinstance(action, ToolCall):
        tool = plan.tools.get(action.tool)
        if tool is not None and (kind_of(tool.kind).outside or not tool.trusted):
            return f"{tool.id} (outside)"
    if isinstance(action, ModuleCall) and action.module in plan.modules:
        lm = plan.lms.get(plan.modules[action.module].lm)
        if lm is not None and not lm.trusted:
            return f"{lm.id} (untrusted)"
    return None


def _secrets(draft: Draft, node: Node, key: str, variable: str) -> None:
    """Report texts at and below a node that look like secrets. `key` is the key that holds the node, `variable` the name
    of an environment variable to keep it in."""
    if isinstance(node, Mapping):
        # An LM's key is best kept under the name that its provider's own tools read.
        model = node.value("model")
        provider = model.partition("/")[0] if isinstance(model, str) and "/" in model else ""
        for name, value in node.entries.items():
            _secrets(draft, value, name, f"{provider}_{name}" if name == "api_key" and provider else name)
    elif isinstance(node, Sequence):
        for value in node.items:
            _secrets(draft, value, key, variable)
    elif isinstance(node, Scalar) and isinstance(node.value, str) and len(node.value) < 5000:
        text = node.value
        named = "${{" not in text and _KEYS.search(key) is not None and _looks_secret(text)
        if named or (len(text) >= _MIN_CHARACTERS and _SHAPES.search(text)):
            name = re.sub(r"[^A-Z0-9_]", "_", variable.upper()) or "API_KEY"
            message = f"`{key}` holds what looks like a secret, which everybody who has the file can read"
            draft.report.add("LMP405", node.place, message, fix=f'write "${{{{ env.{name} }}}}"')


def _looks_secret(text: str) -> bool:
    """Return whether a text under a key such as `api_key` looks like a secret: of 12 characters or more, without spaces,
    with a digit, and of many different characters."""
    word = text.strip().removeprefix("Bearer ")
    if word.lower() in _PLAIN or len(word) < 12 or any(char.isspace() for char in word) or "/" in word[:8]:
        return False
    counts = Counter(word)
    entropy = -sum(count / len(word) * math.log2(count / len(word)) for count in counts.values())
    return entropy >= 3.0 and any(char.isdigit() for char in word)
