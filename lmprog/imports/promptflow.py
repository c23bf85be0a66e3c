"""A prompt flow DAG (`flow.dag.yaml` with its Jinja prompts and Python tools) as a program.

A node becomes a step of the same name with one output, `output`, as it has in the flow: an llm node a module and its
call, a python node a tool and its call. No code of the flow is run: its functions are found by reading their files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmprog.compiler.types.lattice import Primitive, Type, mismatch
from lmprog.compiler.types.text import read_type
from lmprog.errors import UsageError
from lmprog.imports import flow_nodes, flow_prompts, flow_texts, models, python_tools, roles
from lmprog.imports.files import python_reference, read_text, read_yaml, within_depth
from lmprog.imports.flow_values import FlowValues
from lmprog.imports.original import Original
from lmprog.imports.program import Imported, Note, identifier, wrapped
from lmprog.imports.prompt_module import prompt_module, without_images
from lmprog.imports.secrets_in import masked
from lmprog.imports.shapes import Use, chosen, uses
from lmprog.imports.values import fitted

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
    *("environment", "environment_variables", "additional_includes", "init", "message_format", "language"),
    "evaluators",
)


def imported(path: Path, folder: Path) -> Imported:
    """Return the prompt flow in the file `path` (`flow.dag.yaml`) converted to a program whose file will be in
    `folder`, from which its tools name their files; nothing is written. Raises UsageError where the file, or the prompt
    of a node, cannot be read, or where it is no flow of nodes.
    """
    if not path.exists():
        raise UsageError(f"there is no {path}; name a folder that holds a flow.dag.yaml")
    flow = read_yaml(read_text(path), str(path))
    if not isinstance(flow, dict) or not isinstance(flow.get("nodes"), list):
        raise UsageError(
            f"{path} has no list of `nodes`, so it is no prompt flow DAG; flex flows are Python, not a graph"
        )
    return within_depth(_Flow(path, folder, flow).imported, str(path))


class _Flow:
    """The conversion of one prompt flow (`flow`, the mapping in its file): the parts of the program and the notes gathered
    so far.
    """

    def __init__(self, path: Path, folder: Path, flow: dict[str, Any]) -> None:
        self.path, self.folder, self.flow = path, folder, flow
        self.notes: list[Note] = []
        self.lms: dict[str, dict[str, Any]] = {}
        self.tools: dict[str, dict[str, Any]] = {}
        self.modules: dict[str, dict[str, Any]] = {}
        self.steps: dict[str, dict[str, Any]] = {}
        self.values = FlowValues({}, {}, {}, ())
        self.texts: set[str] = set()

    def imported(self) -> Imported:
        """Return the converted program, with a note for each node that becomes no step. Raises UsageError where the
        prompt of a node cannot be read.
        """
        nodes = [flow_nodes.with_variant(self.flow, node, self._say) for node in flow_nodes.named(self.flow)]
        if len(nodes) < len(self.flow["nodes"]):
            self._say("steps", "nodes without a name")
        named = {identifier(node["name"]): node for node in nodes}
        for id, count in Counter(identifier(node["name"]) for node in nodes).items():
            if count > 1:
                self._say("steps", f"all but the last of the {count} nodes whose name becomes `{id}`")
        self.texts = flow_texts.text_nodes(named, self._template)
        left = {id: why for id, node in named.items() if (why := self._reason(id, node)) is not None}
        for why in left.values():
            self._say("steps", why)
        self.values = FlowValues(
            {
                identifier(name): self._input(identifier(name), entry)
                for name, entry in flow_nodes.entries(self.flow.get("inputs")).items()
            },
            {id: self._type(node) for id, node in named.items()},
            left,
            [id for id, node in named.items() if isinstance(node.get("activate"), dict)],
            self.texts,
        )
        kept = {id: node for id, node in named.items() if id not in left}
        kept = self._beside_turns(kept)
        self._refine(kept)
        for id, node in kept.items():
            made = {"llm": self._llm, "prompt": self._text}.get(str(node.get("type")), self._python)
            made(id, node)
        outputs = self._outputs()
        for key in _LEFT:
            if self.flow.get(key):
                text = json.dumps(masked(self.flow[key], key), ensure_ascii=False, default=str)
                self._say("file", f"`{key}`: {text}")
        inputs = {name: entry if len(entry) > 1 else entry["type"] for name, entry in self.values.inputs.items()}
        sections: dict[str, dict[str, Any]] = {
            "inputs": inputs, "outputs": outputs, "lms": self.lms, "tools": self.tools, "modules": self.modules,
            "steps": self.steps,
        }  # fmt: skip
        folder = self.path.resolve().parent.name
        notes = (*self.notes, *self.values.notes)
        description = str(self.flow.get("description") or "")
        return Imported(identifier(folder).lower(), f"{folder}/{self.path.name}", sections, notes, description)

    def _say(self, section: str, text: str, mark: str = "not imported") -> None:
        """Add a note of the kind `mark` to a section of the program, unless it is there already."""
        note = Note(section, text, mark)
        if note not in self.notes:
            self.notes.append(note)

    def _input(self, name: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Return an input of the flow as a mapping with `type`, and where known `about` and `default`; a note tells of a
        type that the language lacks, which becomes `str`.
        """
        written = str(entry.get("type", "string"))
        if written not in _TYPES:
            self._say("inputs", f"the type `{written}` of the input `{name}`: it is taken as str")
        field: dict[str, Any] = {"type": _TYPES.get(written, "str")}
        if entry.get("description"):
            field["about"] = str(entry["description"])
        if entry.get("default") is not None:
            field["default"] = entry["default"]
        return field

    def _outputs(self) -> dict[str, str]:
        """Return the program's outputs, expressions by name, without those of nodes that have no step; where none is left,
        the outputs of the steps that no other step reads. Notes tell of both.
        """
        outputs = {}
        for name, entry in flow_nodes.entries(self.flow.get("outputs")).items():
            reference = self.values.reference(entry.get("reference"))
            if reference is None:
                self._say("outputs", f"the output `{name}`, whose reference is {entry.get('reference')!r}")
            elif self.values.node(reference) in self.values.missing:
                self._say("outputs", f"the output `{name}`: ${{{{ {reference} }}}}, of a node that has no step here")
            else:
                outputs[identifier(name)] = wrapped(reference)
        if not outputs and self.steps:
            read = json.dumps(self.steps, default=str)
            last = [id for id in self.steps if f"steps.{id}." not in read]
            outputs = {
                id: wrapped(f"steps.{id}.{flow_texts.step_output(self.values, id)}") for id in last or self.steps
            }
            self._say("outputs", f"any output of the flow: the program's are those of {', '.join(outputs)}")
        return outputs

    def _type(self, node: dict[str, Any]) -> str | None:
        """Return the type of a node's output, as the language writes it; None where the function of a Python node does not
        say it.
        """
        if node.get("type") != "python":
            return "str"
        found = python_tools.tool_function(flow_nodes.source_of(self.path, node))
        return found.returns if found is not None else None

    def _reason(self, id: str, node: dict[str, Any]) -> str | None:
        """Return a sentence on the reason why the node `id` becomes no step; None where it becomes one."""
        kind, source = node.get("type"), flow_nodes.source_of(self.path, node)
        if node.get("aggregation"):
            return f"the aggregation node `{id}`: it sees all rows at once; write it as a metric"
        if kind == "prompt" and source is not None and id not in self.texts:
            return f"the node `{id}` of type `prompt`, whose text is more than values in their places"
        if kind not in ("llm", "python", "prompt"):
            return f"the node `{id}` of type `{kind}`: lmprog has no such step"
        if source is None:
            named = json.dumps(node.get("source"), default=str)
            return f"the node `{id}`: there is no file for its source {named} in the flow's checkout or folder"
        if kind == "python" and python_tools.tool_function(source) is None:
            return f"the node `{id}`: {source.name} has no function marked `@tool`"
        return None

    def _step(self, id: str, node: dict[str, Any], call: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Add the step for a node: `call` is its verb (`module`, `tool` or `value`), `arguments` its `with`, and its
        `when` comes from the node's `activate`.
        """
        inputs = node.get("inputs")
        for name in inputs if isinstance(inputs, dict) else ():
            if not flow_nodes.is_argument(name):
                self._say("steps", f"the input `{name}` of the node `{id}`, which is no name")
        step = {**call, **({"with": arguments} if arguments else {})}
        activate = node.get("activate")
        if isinstance(activate, dict):
            condition = self.values.condition(activate, id)
            if condition is None:
                self._say("steps", f"`activate` of the node `{id}`, whose `when` is {activate.get('when')!r}")
            else:
                step["when"] = condition
        self.steps[id] = step

    def _template(self, node: Mapping[str, Any]) -> str | None:
        """Return the text of a node's file; None where it has no file. Raises UsageError where that cannot be read."""
        source = flow_nodes.source_of(self.path, node)
        return read_text(source) if source is not None else None

    def _text(self, id: str, node: dict[str, Any]) -> None:
        """Add the step that computes the text of a node of `type: prompt`."""
        written, as_json = flow_texts.expression(self.values, id, self._template(node) or "", flow_nodes.given(node))
        if as_json:
            text = (
                f"how a list or object stands in the text of `{id}`: as JSON here, and in the flow as Python prints it"
            )
            self._say("steps", text)
        self._step(id, {**node, "inputs": {}}, {"value": written}, {})

    def _python(self, id: str, node: dict[str, Any]) -> None:
        """Add the tool and the step for a Python node, whose file has a function marked `@tool`."""
        source = flow_nodes.source_of(self.path, node)
        found = python_tools.tool_function(source)
        assert source is not None and found is not None
        if found.needs_promptflow:
            text = f"prompt flow itself, which {source.name} imports: install it, or take its import and `@tool` out"
            self._say("tools", text)
        self.tools[id] = {"python": python_reference(source, self.folder, found.name), "result": "output"}
        given = flow_nodes.given(node)
        arguments = {name: self.values.argument(value, id, found.takes.get(name)) for name, value in given.items()}
        self._step(id, node, {"tool": id}, arguments)

    def _prompt(self, node: dict[str, Any]) -> tuple[Original, roles.RolePrompt, tuple[str, ...]]:
        """Return the prompt of an llm node, in whole and in its parts, and the names of the inputs that it shows as
        images, whose marks are taken out. Raises UsageError where its file cannot be read.
        """
        source = flow_nodes.source_of(self.path, node)
        assert source is not None
        given = flow_nodes.given(node)
        kinds = {name: self.values.kind(self.values.reference(value) or "") for name, value in given.items()}
        text, images = without_images(read_text(source), [name for name, kind in kinds.items() if kind == "image"])
        if node.get("api") == "completion":
            # The last line break of a text that is sent as it is would not be rendered.
            written = text.removesuffix("\n") + ("{{ '\\n' }}" if text.endswith("\n") else "")
            return Original(text, trims=True, chat=False), roles.RolePrompt(None, written), images
        return Original(text, trims=True), roles.split(text), images

    def _beside_turns(self, nodes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the nodes, where each that reads earlier turns in the flow's own form (not as messages, which another
        node's prompt needs) reads an input of its own for them, `NAME_items`, which is added with a note.
        """
        prompts = {id: self._prompt(node)[1] for id, node in nodes.items() if node.get("type") == "llm"}
        turns = {
            (self.values.reference(flow_nodes.given(nodes[id]).get(name)) or "").removeprefix("inputs.")
            for id, prompt in prompts.items()
            for name in prompt.turns
        }
        found, own = {}, dict(self.values.inputs)
        for id, node in nodes.items():
            given = flow_nodes.given(node)
            for name, value in given.items():
                read = (self.values.reference(value) or "").removeprefix("inputs.")
                whole = id not in prompts or name in prompts[id].variables
                if not whole or read not in turns or read not in own:
                    continue
                items = f"{read}_items" if f"{read}_items" not in own else f"{read}_as_items"
                given[name] = f"${{inputs.{items}}}"
                self.values.inputs[items] = dict(own[read])
                text = f"`inputs.{read}` as the flow has it, which `{id}` reads: the input `{items}` beside the turns"
                self._say("inputs", text)
            found[id] = {**node, "inputs": {**node["inputs"], **given}} if given else node
        return found

    def _refine(self, nodes: dict[str, dict[str, Any]]) -> None:
        """Set the types of the program's inputs by the uses of the kept `nodes`, where the flow declares less: the fields
        that prompts read, and the items of lists that Python functions take. Their defaults are fitted to the types.
        """
        found: dict[str, Use] = {}
        for node in nodes.values():
            if node.get("type") == "llm":
                used = uses(self._prompt(node)[0].text)
                for name, value in flow_nodes.given(node).items():
                    root, _, read = (self.values.reference(value) or "").partition(".")
                    if root == "inputs" and read in self.values.inputs and name in used:
                        found.setdefault(read, Use()).merge(used[name])
            for name, value in flow_nodes.given(node).items() if node.get("type") == "python" else ():
                tool = python_tools.tool_function(flow_nodes.source_of(self.path, node))
                field = self.values.inputs.get((self.values.reference(value) or "").removeprefix("inputs."))
                wanted = tool.takes.get(name, "") if tool is not None else ""
                if field is not None and field["type"] == "list[json]" and wanted.startswith("list["):
                    field["type"] = wanted
        for name, use in found.items():
            own = self.values.inputs[name]
            declared = str(own["type"])
            if use.taken_apart and declared in ("str", "json", "list[json]"):
                kind = chosen(declared, own.get("default"), use)
                own["type"] = str(kind)
                if declared == "str":
                    self._say(
                        "inputs", f"the type of `{name}`, declared as str and taken apart by a prompt: now {kind}"
                    )
        for name, field in self.values.inputs.items():
            field |= self._default(name, field)

    def _default(self, name: str, field: dict[str, Any]) -> dict[str, Any]:
        """Return the entry `default` of an input with the value fitted to its type; empty where it has none, and where the
        value does not fit: it is then removed from `field`, with a note.
        """
        if "default" not in field:
            return {}
        kind: Type = read_type(str(field["type"]), Primitive)
        value = fitted(field["default"], kind)
        wrong = mismatch(value, kind)
        if wrong is None:
            return {"default": value}
        self._say("inputs", f"the default of `{name}`: {wrong}")
        del field["default"]
        return {}

    def _llm(self, id: str, node: dict[str, Any]) -> None:
        """Add the module, its LM and the step for an llm node, with notes on inputs that are missing or left out, and where
        its messages will differ from the flow's.
        """
        source = flow_nodes.source_of(self.path, node)
        assert source is not None
        original, prompt, images = self._prompt(node)
        for note in prompt.notes:
            self._say("modules", f"in {source.name}: {note}")
        if not original.chat:
            self._say("modules", f"the completion API, for which {source.name} is written: its text is the user's turn")
        given = flow_nodes.given(node)
        for name in (*sorted(prompt.variables), *prompt.turns):
            if name not in given:
                self._say("steps", f"`{name}` of {source.name}: the node `{id}` gives it no value, so it is empty")
                given[name] = "" if name in prompt.variables else []
        for name in prompt.turns:
            self._turns(given[name], source)
        read = {*prompt.variables, *prompt.turns, *images}
        for name in sorted(given.keys() - read - _PARAMETERS - {"deployment_name", "model"}):
            self._say("modules", f"`{name}` of the node `{id}`: " + self._unused(name, given[name], source))
        outputs = {"output": "str"}
        known = flow_prompts.known(self.values, id, original, {name: given[name] for name in read}, images)
        made = prompt_module(id, original, prompt, known, outputs)
        if made.differs:
            self._say("modules", f"the prompt of `{id}` ({source.name}): {made.differs}", "differs")
        lm = models.named(self.lms, self._lm(id, node, given), id)
        self.modules[id] = {"lm": lm, "inputs": made.inputs(), "outputs": outputs, **made.layout}
        arguments = {
            made.name(name): flow_prompts.argument(self.values, id, given[name], kind)
            for name, kind in sorted(made.types.items())
        }
        self._step(id, node, {"module": id}, arguments)

    @staticmethod
    def _unused(name: str, value: Any, source: Path) -> str:
        """Return why an input of an llm node is left out: it names tools, or its prompt does not use it."""
        if name in _CALLING:
            return f"{json.dumps(value, ensure_ascii=False, default=str)}: an agent's tools are `tools` of its module"
        return f"{source.name} does not use it"

    def _turns(self, value: Any, source: Path) -> None:
        """Change the input that `value` refers to, a list of earlier runs over which a prompt loops, to one of type
        `messages` with an empty default, with a note; any other value changes nothing.
        """
        reference = self.values.reference(value) or ""
        field = self.values.inputs.get(reference.removeprefix("inputs."))
        if field is not None and field["type"] != "messages":
            field["type"] = "messages"
            if field.get("default"):
                self._say("inputs", f"the default of `{reference}`: it is not a list of turns")
            field["default"] = []
            text = f"the shape of `{reference}`, which {source.name} loops over: now a list of {{role, content}}"
            self._say("inputs", text)

    def _lm(self, id: str, node: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Return the entry of `lms` for an llm node with the inputs `given`, with notes on what its connection would say."""
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
            self._say("lms", f"the connection `{connection}`: its key and address are read from {variables}")
        params = {}
        for name, value in given.items():
            if name not in _PARAMETERS or value in ("", None):
                continue
            if isinstance(value, str) and value.startswith("${"):
                self._say("lms", f"the parameter `{name}: {value}` of `{id}`: parameters are the same for all runs")
            else:
                params[name] = models.number(value)
        return models.lm(where, model, params)
