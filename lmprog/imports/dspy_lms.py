"""The LMs of DSPy: calls of `dspy.LM` in a file, and LMs in a saved program."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from lmprog.boundary.secret_forms import secrets_of_address
from lmprog.imports import models
from lmprog.imports.dspy_code import DspyFile, plain_value
from lmprog.imports.program import MARK, Note

_PARAMETERS = frozenset({
    "temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "stop", "presence_penalty", "frequency_penalty",
    "reasoning_effort", "logit_bias",
})  # fmt: skip
_SILENT = {"_dspy_lm_class", "cache", "num_retries", "callbacks", "model_type", "rollout_id"}
"""Options of an LM that steer DSPy itself and change nothing in the request; they are left out without a note."""


def lm_entry(options: Mapping[str, Any], notes: list[Note], *, saved: bool = False) -> dict[str, Any]:
    """Return an entry of `lms` of a spec (`model`, `params`, `api_base`) for the options of a DSPy LM by name; where
    they name no model it has `NO_MODEL`. A note is added to `notes` for each option that is left out and would change
    requests: the key, an address that holds a secret, what would be an expression in a spec, and options that a spec
    does not have.

    With `saved` the options come from a saved program, whose address is left out, with a note, as DSPy itself does:
    requests and the key would be sent there.
    """
    strange = [name for name, value in options.items() if MARK in str(value)]
    notes += [Note("lms", f"`{name}` of the LM, whose value would be an expression here") for name in strange]
    options = {name: value for name, value in options.items() if name not in strange}
    model = str(options.get("model") or f"openai/{models.NO_MODEL}")
    if "/" not in model:
        notes.append(Note("lms", f"the provider of `{model}`, which litellm guesses: it is taken as openai"))
        model = f"openai/{model}"
    entry: dict[str, Any] = {"model": model}
    params = {name: value for name, value in options.items() if name in _PARAMETERS and value is not None}
    if params:
        entry["params"] = params
    base = options.get("api_base") or options.get("base_url")
    if isinstance(base, str) and secrets_of_address(base):
        notes.append(Note("lms", "the address of the LM, which holds a secret: write `api_base`"))
    elif isinstance(base, str) and base and not saved:
        entry["api_base"] = base
    elif base:
        notes.append(
            Note("lms", f"the address {base}, to which requests and the key would go: write `api_base` if you trust it")
        )
    if options.get("model_type") not in (None, "chat"):
        notes.append(Note("lms", f"`model_type: {options['model_type']}`: requests are chat completions"))
    known = {*_PARAMETERS, *_SILENT, "model", "api_base", "base_url"}
    for name, value in options.items():
        if name == "api_key":
            notes.append(Note("lms", "the key: it is read from the provider's environment variable"))
        elif name not in known and value not in (None, {}, [], ""):
            notes.append(Note("lms", f"`{name}` of the LM"))
    return entry


def configured(file: DspyFile) -> dict[str, Any] | None:
    """Return the options, by the name of the argument, of the LM that the top level of a file sets by `configure`, else of the
    only LM that it makes; None where there is none. The file gets notes on other LMs, other settings and options that
    cannot be read, and the statements count as handled. A key is not read: its option is the text `set`.
    """
    made = {}
    chosen: ast.AST | None = None
    for node in file.tree.body:
        for part in ast.walk(node) if not isinstance(node, ast.ClassDef) else ():
            if not isinstance(part, ast.Call):
                continue
            if file.dspy_name(part.func) == "LM":
                names = [one.id for one in getattr(node, "targets", []) if isinstance(one, ast.Name)]
                made[names[0] if names else f"line {part.lineno}"] = part
            elif isinstance(part.func, ast.Attribute | ast.Name) and file.dspy_name(part.func) == "configure":
                given = {keyword.arg: keyword.value for keyword in part.keywords}
                chosen = given.get("lm") or chosen
                _note_settings(file, given)
            else:
                continue
            if isinstance(node, ast.Expr) or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
                file.handled.add(node)
    call = made.get(chosen.id) if isinstance(chosen, ast.Name) else chosen
    if call is None and len(made) == 1:
        call = next(iter(made.values()))
        file.say("lms", call, "nothing sets it for the whole program, which has it as its only one")
    for other in made.values():
        if other is not call:
            file.say("lms", other, "the program uses another")
    return dict(_options(file, call)) if isinstance(call, ast.Call) and file.dspy_name(call.func) == "LM" else None


def _note_settings(file: DspyFile, given: Mapping[str | None, ast.expr]) -> None:
    """Add a note for each setting of a call of `configure` but the LM; `given` are its arguments by name."""
    for name, value in given.items():
        if name != "lm":
            file.say("file", value, f"the setting `{name}`")


def _options(file: DspyFile, call: ast.Call) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the arguments of a call of `dspy.LM`; one whose value is not plain is left out with a
    note, and the value of a key is the text `set`.
    """
    given = [("model", call.args[0])] if call.args else []
    for name, node in [*given, *((one.arg, one.value) for one in call.keywords if one.arg)]:
        value = plain_value(node)
        if value is None and isinstance(node, ast.Name) and node.id in file.constants:
            value = file.constants[node.id].value
        if name == "api_key":
            yield name, "set"
        elif value is None and not (isinstance(node, ast.Constant) and node.value is None):
            file.say("lms", node, f"`{name}` of the LM")
        else:
            yield name, value
