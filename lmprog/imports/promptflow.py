"""A prompt flow DAG (`flow.dag.yaml` with its Jinja prompts and Python tools) as a program.

A node becomes a step of the same name with one output, `output`, as it has in the flow: an llm node a module and its call,
a python node a tool and its call. No code of the flow is run: its functions are found by reading their files.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from lmprog.errors import UsageError
from lmprog.imports import models, python_tools, roles
from lmprog.imports.files import read_text, read_yaml, within_depth
from lmprog.imports.program import Imported, Note, identifier, type_of, wrapped

_REFERENCE = re.compile(r"^\$\{\s*([^.}\s\[]+)\s*((?:\.[^.}\s\[]+|\[[^\]}]*\])*)\s*\}$")
_TYPES = {
    "string": "str", "int": "int", "double": "float", "bool": "bool", "list": "list[json]", "object": "json",
    "image": "image",
}  # fmt: skip
_PARAMETERS = frozenset({
    "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "presence_penalty", "frequency_penalty", "seed",
    "logit_bias", "response_format", "n", "best_of", "logprobs", "user", "suffix", "echo",
})  # fmt: skip
_CALLING = ("functions", "function_call", "tools", "tool_choice")
_LEFT = (
    "environment",
    "environment_variables",
    "additional_includes",
    "init",
    "message_format",
    "language",
    "evaluators",
)


def imported(path: Path, folder: Path) -> Imported:
    """The program of the flow at `path`, for a file in `folder`. Raises UsageError where it is no flow of nodes."""
    if not path.exists():
        raise UsageError(f"there is no {path}; name a folder that holds a flow.dag.yaml")
    flow = read_yaml(read_text(path), str(path))
    if not isinstance(flow, dict) or not isinstance(flow.get("nodes"), list):
        raise UsageError(
            f"{path} has no list of `nodes`, so it is no prompt flow DAG; flex flows are Python, not a graph"
        )
    return within_depth(_Flow(path, folder, flow).imported, str(path))


class _Flow:
    def __init__(self, path: Path, folder: Path, flow: dict[str, Any]) -> None:
        self.path, self.folder, self.flow = path, folder, flow
        self.notes: list[Note] = []
        self.inputs: dict[str, dict[str, Any]] = {}
        self.lms: dict[str, dict[str, Any]] = {}
        self.tools: dict[str, dict[str, Any]] = {}
        self.modules: dict[str, dict[str, Any]] = {}
        self.steps: dict[str, dict[str, Any]] = {}
        self.types: dict[str, str | None] = {}
        """The type of each node's output; None where nothing says it."""

    def imported(self) -> Imported:
        for name, entry in _entries(self.flow.get("inputs")).items():
            self._input(identifier(name), entry)
        nodes = [self._chosen(node) for node in self.flow["nodes"] if isinstance(node, dict) and _named(node)]
        if len(nodes) < len(self.flow["nodes"]):
            self._say("steps", "nodes without a name")
        self.types = {identifier(node["name"]): self._type(node) for node in nodes}
        for node in nodes:
            self._node(identifier(node["name"]), node)
        outputs = {}
        for name, entry in _entries(self.flow.get("outputs")).items():
            reference = self._reference(entry.get("reference"))
            if reference is None:
                self._say("outputs", f"the output `{name}`, whose reference is {entry.get('reference')!r}")
            else:
                outputs[identifier(name)] = wrapped(reference)
        for key in _LEFT:
            if self.flow.get(key):
                self._say("file", f"`{key}`: {json.dumps(self.flow[key], ensure_ascii=False, default=str)}")
        inputs = {name: entry if len(entry) > 1 else entry["type"] for name, entry in self.inputs.items()}
        sections: dict[str, dict[str, Any]] = {
            "inputs": inputs, "outputs": outputs, "lms": self.lms, "tools": self.tools, "modules": self.modules,
            "steps": self.steps,
        }  # fmt: skip
        name = identifier(self.path.resolve().parent.name).lower()
        description = str(self.flow.get("description") or "")
        return Imported(
            name, f"{self.path.resolve().parent.name}/{self.path.name}", sections, tuple(self.notes), description
        )

    def _say(self, section: str, text: str) -> None:
        self.notes.append(Note(section, text))

    def _input(self, name: str, entry: dict[str, Any]) -> None:
        written = str(entry.get("type", "string"))
        if written not in _TYPES:
            self._say("inputs", f"the type `{written}` of the input `{name}`: it is taken as str")
        field: dict[str, Any] = {"type": _TYPES.get(written, "str")}
        if entry.get("description"):
            field["about"] = str(entry["description"])
        if entry.get("default") is not None:
            field["default"] = entry["default"]
        self.inputs[name] = field

    def _chosen(self, node: dict[str, Any]) -> dict[str, Any]:
        """The node, or its default variant where it has variants."""
        variants = _entries(self.flow.get("node_variants")).get(node["name"])
        if not node.get("use_variants") or variants is None:
            return node
        known = _entries(variants.get("variants"))
        chosen = str(variants.get("default_variant_id") or next(iter(known), ""))
        for id in known:
            if id != chosen:
                self._say("steps", f"the variant `{id}` of the node `{node['name']}`; the program has `{chosen}`")
        return {**node, **_entries(known.get(chosen)).get("node", {}), "name": node["name"]}

    def _type(self, node: dict[str, Any]) -> str | None:
        if node.get("type") != "python":
            return "str"
        found = python_tools.tool_function(self._source(node))
        return found.returns if found is not None else None

    def _source(self, node: dict[str, Any]) -> Path | None:
        """The file of a node; None where there is none inside the flow's folder or beside it."""
        source = node.get("source")
        written = source.get("path") if isinstance(source, dict) else None
        path = self.path.parent / str(written)
        return path if written and path.is_file() else None

    def _node(self, id: str, node: dict[str, Any]) -> None:
        kind, source = node.get("type"), self._source(node)
        for name in _entries({"inputs": node.get("inputs")}).get("inputs", {}):
            if not _is_argument(name):
                self._say("steps", f"the input `{name}` of the node `{id}`, which is no name")
        if node.get("aggregation"):
            self._say("steps", f"the aggregation node `{id}`: it sees all rows at once; write it as a metric")
        elif kind not in ("llm", "python"):
            self._say("steps", f"the node `{id}` of type `{kind}`: lmprog has no such step")
        elif source is None:
            named = node.get("source")
            self._say("steps", f"the node `{id}`: there is no file for its source {json.dumps(named, default=str)}")
        elif kind == "llm":
            self._llm(id, node, source)
        else:
            self._python(id, node, source)

    def _step(self, id: str, node: dict[str, Any], call: dict[str, Any], arguments: dict[str, Any]) -> None:
        step = {**call, **({"with": arguments} if arguments else {})}
        activate = node.get("activate")
        if isinstance(activate, dict):
            condition = self._reference(activate.get("when"))
            if condition is None:
                self._say("steps", f"`activate` of the node `{id}`, whose `when` is {activate.get('when')!r}")
            else:
                step["when"] = f"{condition} == {json.dumps(activate.get('is'), ensure_ascii=False)}"
        self.steps[id] = step

    def _python(self, id: str, node: dict[str, Any], source: Path) -> None:
        found = python_tools.tool_function(source)
        if found is None:
            self._say("tools", f"the node `{id}`: {source.name} has no function marked `@tool`")
            return
        if found.needs_promptflow:
            text = f"prompt flow itself, which {source.name} imports: install it, or take its import and `@tool` out"
            self._say("tools", text)
        relative = Path(os.path.relpath(source.resolve(), self.folder.resolve())).as_posix()
        dotted = relative if relative.startswith("../") else f"./{relative}"
        self.tools[id] = {"python": f"{dotted}:{found.name}", "result": "output"}
        arguments = {name: self._argument(value) for name, value in _given(node).items()}
        self._step(id, node, {"tool": id}, arguments)

    def _llm(self, id: str, node: dict[str, Any], source: Path) -> None:
        text = read_text(source)
        prompt = roles.split(text, first="user" if node.get("api") == "completion" else "system")
        for note in prompt.notes:
            self._say("modules", f"in {source.name}: {note}")
        given, taken_apart = _given(node), roles.looped(text)
        types, arguments = {}, {}
        for name in (*sorted(prompt.variables), *prompt.turns):
            if name not in given:
                self._say("steps", f"`{name}` of {source.name}: the node `{id}` gives it no value")
                continue
            types[name], arguments[name] = self._shown(given[name], name in taken_apart)
            if name in prompt.turns:
                arguments[name] = self._argument(given[name])
                self._turns(given[name], source)
        for name in sorted(given.keys() - types.keys() - _PARAMETERS - {"deployment_name", "model"}):
            self._say("modules", f"`{name}` of the node `{id}`: " + self._unused(name, given[name], source))
        self.modules[id] = {
            "lm": models.named(self.lms, self._lm(id, node, given), id),
            "inputs": roles.shapes(prompt, types),
            "outputs": {"output": "str"},
            **prompt.layout(),
        }
        self._step(id, node, {"module": id}, arguments)

    @staticmethod
    def _unused(name: str, value: Any, source: Path) -> str:
        if name in _CALLING:
            return f"{json.dumps(value, ensure_ascii=False, default=str)}: an agent's tools are `tools` of its module"
        return f"{source.name} does not use it"

    def _turns(self, value: Any, source: Path) -> None:
        """An input whose items were inputs and outputs of earlier runs is now earlier turns."""
        reference = self._reference(value) or ""
        field = self.inputs.get(reference.removeprefix("inputs."))
        if field is not None and field["type"] != "messages":
            field["type"] = "messages"
            if field.get("default"):
                self._say("inputs", f"the default of `{reference}`: it is not a list of turns")
            field["default"] = []
            text = f"the shape of `{reference}`, which {source.name} loops over: now a list of {{role, content}}"
            self._say("inputs", text)

    def _argument(self, value: Any) -> Any:
        reference = self._reference(value)
        return value if reference is None else wrapped(reference)

    def _shown(self, value: Any, taken_apart: bool) -> tuple[str, Any]:
        """The type of a module's input and its argument: what the template only prints is given to it as text."""
        reference = self._reference(value)
        if reference is None:
            return type_of(value), value
        root, *rest = reference.split(".")
        whole = len(rest) == (1 if root == "inputs" else 2) and "[" not in reference
        kind = self.inputs.get(rest[0], {}).get("type") if root == "inputs" else self.types.get(rest[0])
        kind = kind if whole else None
        if taken_apart:
            return kind or "json", wrapped(reference)
        if kind in ("list[json]", "json"):
            return "str", wrapped(f"json({reference})")
        return kind or "str", wrapped(reference if kind or whole else f"str({reference})")

    def _reference(self, value: Any) -> str | None:
        """`${inputs.a}` and `${node.output.b}` as an expression; None for what is no reference."""
        found = _REFERENCE.match(value) if isinstance(value, str) else None
        if found is None:
            return None
        root, rest = found.groups()
        if root in ("inputs", "flow"):
            name, *fields = rest.removeprefix(".").split(".")
            return ".".join(("inputs", identifier(name), *fields)) if name else None
        return f"steps.{identifier(root)}{rest}" if re.match(r"\.output\b", rest) else None

    def _lm(self, id: str, node: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        connection, deployment = str(node.get("connection") or ""), given.get("deployment_name")
        where = models.provider(node.get("provider"))
        if where is None:
            where = models.AZURE if "azure" in connection.lower() or not given.get("model") else models.OPENAI
        model = (deployment if where is models.AZURE else given.get("model")) or deployment or given.get("model")
        if not isinstance(model, str) or model.startswith("${"):
            self._say("lms", f"the model of the node `{id}`, which its connection chooses: write the one that you use")
            model = models.NO_MODEL
        if connection:
            variables = " and ".join(f"${name}" for name in (where.key, where.base) if name)
            text = f"the connection `{connection}`: its key and address are read from {variables}"
            if Note("lms", text) not in self.notes:
                self._say("lms", text)
        params = {
            name: models.number(given[name]) for name in given if name in _PARAMETERS and given[name] not in ("", None)
        }
        return models.lm(where, model, params)


def _named(node: dict[str, Any]) -> bool:
    return isinstance(node.get("name"), str) and bool(node["name"])


def _entries(value: Any) -> dict[str, dict[str, Any]]:
    """The entries of a mapping that are mappings themselves."""
    found = value if isinstance(value, dict) else {}
    return {str(key): entry for key, entry in found.items() if isinstance(entry, dict)}


def _given(node: dict[str, Any]) -> dict[str, Any]:
    inputs = node.get("inputs")
    return {name: value for name, value in inputs.items() if _is_argument(name)} if isinstance(inputs, dict) else {}


def _is_argument(name: object) -> bool:
    return isinstance(name, str) and name == identifier(name)
