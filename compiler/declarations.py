"""Reading of a program's declarations: vars, inputs, LMs and exports."""

from __future__ import annotations

import os
from collections.abc import Mapping as Map
from pathlib import Path
from typing import Any

from lmprog.compiler.addresses import adapter_store, api_base
from lmprog.compiler.backends import VLLM_PREFIX, backend_of
from lmprog.compiler.draft import Draft
from lmprog.compiler.environment import ENVIRONMENT, setting
from lmprog.compiler.expressions.compiled import Expression, literal
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.findings.near_misses import check_backend, check_model, check_parameters
from lmprog.compiler.fitting import fit
from lmprog.compiler.hub import FORM, HUB, as_model, parse
from lmprog.compiler.plan import LM, AdapterReference, Cache, Export, Limits, Load
from lmprog.compiler.shape import Number
from lmprog.compiler.types.lattice import UNKNOWN, Object, Type, type_of
from lmprog.compiler.yaml.files import NotRead, read_text, refusal
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence, shown_path

_PARAMETERS = {
    "max_tokens": Number(whole=True, least=1),
    "temperature": Number(least=0),
    "top_p": Number(least=0, most=1),
    "top_k": Number(whole=True),
    "seed": Number(whole=True),
}
"""The parameters that mean the same everywhere; a provider may know others."""


def read_vars(draft: Draft) -> dict[str, Any]:
    """Return the values of `vars:` by name. The value of `{file: labels.txt}` is the list of the file's lines, stripped and
    without blank ones; None, with a finding, where the file cannot be read, whose name is added to `draft.unknown_vars`.

    A text with `${{ }}` gets a finding and stays a text.
    """
    node = draft.root.map("vars")
    values: dict[str, Any] = {}
    for name, entry in node.entries.items() if node else ():
        if isinstance(entry, Mapping) and set(entry.entries) == {"file"}:
            values[name] = _lines(draft, entry.entries["file"], name)
        else:
            values[name] = entry.plain()
            _no_expression(draft, entry, name)
    return values


def _no_expression(draft: Draft, node: Node, name: str) -> None:
    if isinstance(node, Scalar) and isinstance(node.value, str) and "${{" in node.value:
        draft.report.add(
            "LMP101",
            node.place,
            f"var `{name}` is a constant, and cannot hold an expression",
            fix="make it a value step",
        )


def _lines(draft: Draft, node: Node, name: str) -> list[str] | None:
    path = draft.file(node, f"var `{name}`")
    if path is None:
        draft.unknown_vars.add(name)
        return None
    try:
        lines = read_text(path, draft.options.root).removeprefix("\ufeff").splitlines()
    except NotRead as error:
        draft.report.add("LMP103", node.place, f"var `{name}`: cannot read {path.name}: {error}")
        draft.unknown_vars.add(name)
        return None
    return [line.strip() for line in lines if line.strip()]


def var_types(draft: Draft) -> Object:
    """Return the types of `vars:`; UNKNOWN for one whose file or YAML could not be read."""
    unknown = draft.unknown_vars | (draft.root.map("vars").dropped if draft.root.map("vars") else frozenset())  # type: ignore[union-attr]
    fields: list[tuple[str, Type]] = [
        (name, type_of(value)) for name, value in draft.vars.items() if name not in unknown
    ]
    return Object((*fields, *((name, UNKNOWN) for name in sorted(unknown))))


def read_lms(draft: Draft, rebound: Map[str, str]) -> dict[str, LM]:
    """Return the declared LMs by id; `rebound` has models that replace the declared ones, by LM id (`--lm`).

    A mistake becomes a finding in the draft's report, and its LM is returned all the same. An id of `rebound` that is
    not declared is passed over here.
    """
    node = draft.root.map("lms")
    found: dict[str, LM] = {}
    for id, entry in node.entries.items() if node else ():
        if isinstance(entry, Mapping):
            found[id] = _lm(draft, id, entry, rebound.get(id))
    return found


def _lm(draft: Draft, id: str, node: Mapping, rebound: str | None) -> LM:
    model = as_model(rebound or node.value("model") or "")
    what = f"LM `{id}`"
    if model.startswith("embedded/") and model != "embedded/smollm2-135m":
        place = node.entries["model"].place if "model" in node.entries else node.place
        draft.report.add(
            "LMP103",
            place,
            f"there is no embedded model `{model}`",
            fix="did you mean `embedded/smollm2-135m`?",
        )
    elif model and "/" not in model and node.get("model") is not None and not rebound:
        _model_name(draft, node.entries["model"], model)
    backend = backend_of(model)
    params = node.map("params")
    for key, entry in params.entries.items() if params else ():
        shape = _PARAMETERS.get(key)
        if shape is not None and "${{" not in str(entry.plain()):
            fit(shape, entry, draft.report, f"`{key}` of {what}")
    if backend.tool_protocol == "text" and node.value("tool_protocol") == "native":
        message = f"{what} runs in this process, and has no way of its own to call tools"
        if not backend.local:
            message = f"{what} ({model}) has no way of its own to call tools"
        draft.report.add("LMP101", node.entries["tool_protocol"].place, message, fix="write tool_protocol: text")
    if params is not None:
        check_parameters(draft, params, what)
    if "model" in node.entries and not rebound:
        check_model(draft, node.entries["model"], model, "api_base" not in node.entries)
    elif rebound:
        check_backend(draft, node, model)
    return LM(
        id,
        model,
        params=node.value("params", {}),
        trusted=_trusted(node, model, backend.local),
        api_key=setting(draft, node.get("api_key"), f"`api_key` of {what}"),
        api_base=api_base(draft, node.get("api_base"), model, what),
        adapter=adapter(draft, node.get("adapter")),
        context=node.value("context"),
        price=node.value("price"),
        speed=node.value("speed"),
        headers=_headers(draft, node, what),
        limits=Limits(**node.value("limits", {})),
        tool_protocol=node.value("tool_protocol", backend.tool_protocol),
        cache=_cache(node),
        adapter_store=adapter_store(draft, node.get("adapter_store"), model, what),
        weights=_weights(draft, node, model, what),
        load=_load(draft, node, model, what, rebound is not None),
    )


def _cache(node: Mapping) -> Cache | None:
    cache = node.get("cache")
    if not isinstance(cache, Mapping):
        return Cache() if node.value("cache", False) else None
    folder = cache.get("folder")
    return Cache(
        bool(cache.value("shared", False)), node.source.folder / folder.value if isinstance(folder, Scalar) else None
    )


def _trusted(node: Mapping, model: str, here: bool) -> bool:
    """Return whether private values may reach `model`, by the LM's key `trusted`; without the key, whether the model runs
    in this process (`here`).

    A `trusted: true` of the file holds only for the model that the file names, not for one bound in its place (`--lm`);
    one of `--set`, and `trusted: false`, hold for any model.
    """
    said = node.get("trusted")
    if said is None:
        return here
    other = model != as_model(node.value("model") or "") and not said.source.name.startswith("--set ")
    return here if other and said.plain() else bool(said.plain())


def _weights(draft: Draft, node: Mapping, model: str, what: str) -> str | None:
    """Return the model (`hf/...`) under `weights` of an LM, which its vLLM server serves; None where there is none, or where
    vLLM does not serve `model`, which may have been bound in place of the file's.

    A name that cannot be loaded in this process gets a finding, and is returned.
    """
    weights: str | None = node.value("weights")
    weights = as_model(weights) if weights is not None else None
    if weights is None or not model.startswith(VLLM_PREFIX):
        return None
    if not backend_of(weights).trainable:
        message = f"`weights` of {what} names no model that can be loaded here: {weights}"
        draft.report.add(
            "LMP701", node.entries["weights"].place, message, fix=f"write hf/{model.removeprefix(VLLM_PREFIX)}"
        )
    return weights


def _load(draft: Draft, node: Mapping, model: str, what: str, rebound: bool) -> Load | None:
    """Return how a model is loaded; None for as its files have it.

    Reports models that cannot be loaded so; one that was bound in place of the program's is loaded as it is.
    """
    load: Load | None = node.value("load")
    if load is None or model.startswith("hf/"):
        return load
    if not rebound:
        message = f"`load` of {what} is for models that are read from their files here, and `{model}` is not"
        if model.startswith("embedded/"):
            message = f"`load` of {what}: `{model}` comes in 4 bits of another kind already, and is computed in bf16"
        draft.report.add("LMP101", node.entries["load"].place, message, fix="leave load out, or name an hf/ model")
    return None


def read_export(draft: Draft) -> Export | None:
    """Return the destination of traces under `export: traces:`, a path being a destination of the kind `file`; None where
    the spec has none, or none that could be read."""
    node = draft.root.map("export")
    traces = node.get("traces") if node is not None else None
    if isinstance(traces, Scalar):
        return Export("file", {"file": traces.source.folder / traces.value})
    if not isinstance(traces, Mapping):
        return None
    what = "`traces` of `export`"
    other = next((key for key in traces.entries if key not in ("otlp", "headers", "content", "metrics")), None)
    if other is not None:
        given = settings(draft, traces.entries[other], f"`{other}` of {what}")
        options = given if isinstance(given, dict) else {other: given}
        return Export(other, {"folder": traces.source.folder, **options})
    address, headers = setting(draft, traces.get("otlp"), f"`otlp` of {what}"), _headers(draft, traces, what)
    sent = {key: traces.value(key, False) for key in ("content", "metrics")}
    return Export("otlp", {"otlp": address, "headers": headers, **sent})


def _headers(draft: Draft, node: Mapping, what: str) -> dict[str, Expression]:
    written = node.map("headers")
    found = {
        name: setting(draft, value, f"the header `{name}` of {what}")
        for name, value in (written.entries.items() if written else ())
    }
    return {name: value for name, value in found.items() if value is not None}


def _model_name(draft: Draft, node: Node, model: str) -> None:
    """Report a model name without a prefix that is a folder beside the spec, which is written `hf/` and its path from the
    working directory; other names without a prefix are left to litellm."""
    folder = node.source.folder / model
    if refusal(folder, draft.options.root) is None and os.path.isdir(folder):
        draft.report.add(
            "LMP103",
            node.place,
            f"`{model}` names no model; a folder is written hf/{shown_path(folder)}",
            fix=f"write hf/{shown_path(folder)}",
        )


def settings(draft: Draft, node: Node, what: str) -> Any:
    """Return the options of a tool or a destination of traces as plain values, with an Expression over the environment
    in place of each text with `${{ }}`, also within mappings and lists: one of the value None where the text has a
    finding. `what` names the options in messages."""
    if isinstance(node, Mapping):
        return {key: settings(draft, value, f"`{key}` of {what}") for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [settings(draft, item, what) for item in node.items]
    if isinstance(node, Scalar) and isinstance(node.value, str) and "${{" in node.value:
        return draft.binder.written(node, ENVIRONMENT, what) or literal(None)
    return node.plain()


def adapter(draft: Draft, node: Node | None) -> AdapterReference | None:
    """Return the adapter that a node names, by its path (relative to the node's file), by `hf://...`, or by a mapping
    with digests; None for None, for a mapping without `path` (which the shape of the spec reports), and, with a
    finding, for a path that may not be read.

    A folder that does not exist, and a wrong name of a repository, get a finding and are returned.
    """
    if node is None:
        return None
    entry = node if isinstance(node, Mapping) else None
    path_node = entry.get("path") if entry else node
    if path_node is None:
        return None
    text = str(path_node.plain())
    if text.startswith(HUB):
        path: Path | str = text
        if parse(text) is None:
            draft.report.add("LMP103", path_node.place, f"`{text}` names no repository of the Hub", fix=f"write {FORM}")
    else:
        found = draft.reachable(path_node, "an adapter", text)
        if found is None:
            return None
        path = found
        if not os.path.isdir(path):
            draft.report.add("LMP103", path_node.place, f"there is no adapter folder {text}")
    return AdapterReference(
        path,
        entry.value("sha256") if entry else None,
        entry.value("base") if entry else None,
        entry.value("base_sha256") if entry else None,
    )


def pick_lm(draft: Draft, node: Mapping, id: str) -> str:
    """Return the id of the LM of the module `id`: the one that its node names, also (with a finding) where the program
    has no such LM, or the program's only one; empty, with a finding, where it names none and the program has none or
    several.

    The LM is marked as used.
    """
    named = node.get("lm")
    known = list(draft.lms) + sorted(draft.dropped("lms"))
    if named is not None:
        lm: str = named.plain()
        if lm not in known:
            draft.meant("lms", lm)
            draft.report.add(
                "LMP103", named.place, f"module `{id}` names the LM `{lm}`, which does not exist",
                fix=suggestion(lm, known, "LMs"),
            )  # fmt: skip
        draft.used.add(("lms", lm))
        return lm
    if "lm" in node.dropped:
        return ""
    if len(known) == 1:
        draft.used.add(("lms", known[0]))
        return known[0]
    if known or not draft.dropped_top("lms"):
        draft.report.add("LMP101", draft.key("modules", id), f"module `{id}` names no LM", fix="add lm:")
    return ""
