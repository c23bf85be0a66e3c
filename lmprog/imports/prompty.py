"""A `.prompty` file as a program of one module: front matter, then the messages under role lines.

Both generations of the front matter are read: `model.configuration` and `parameters` with `inputs` and `sample`, and
`model.connection` and `options` with `inputs`, `inputSchema` and `outputs` (lists or mappings of properties).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmprog.errors import UsageError
from lmprog.imports import models, roles
from lmprog.imports.files import read_text, read_yaml, within_depth
from lmprog.imports.program import Imported, Note, identifier, type_of
from lmprog.wire import loads

_FRONT = re.compile(r"\A\ufeff?\s*---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)(.*)\Z", re.DOTALL | re.MULTILINE)
_TOOLS = re.compile(
    r"\A\s*tools:[ \t]*\n.*?(?=^[ \t]*#?[ \t]*(?:system|user|assistant)\b[^\n]*:[ \t]*$)", re.DOTALL | re.MULTILINE
)
_ENV = re.compile(r"^\$\{(?:env:)?(\w+)(?::[^}]*)?\}$", re.IGNORECASE)
_TYPES = {
    "string": "str", "str": "str", "number": "float", "float": "float", "double": "float", "integer": "int",
    "int": "int", "boolean": "bool", "bool": "bool", "object": "json", "array": "list[json]", "list": "list[json]",
    "thread": "messages", "image": "image",
}  # fmt: skip
_OPTIONS = {
    "maxOutputTokens": "max_tokens", "max_completion_tokens": "max_tokens", "topP": "top_p", "topK": "top_k",
    "frequencyPenalty": "frequency_penalty", "presencePenalty": "presence_penalty", "stopSequences": "stop",
}  # fmt: skip
_LEFT = ("base", "tools", "authors", "tags", "version", "metadata", "parser", "environment")
_NO_PARAMETERS = (
    "stream",
    "tools",
    "tool_choice",
    "tools_choice",
    "functions",
    "function_call",
    "additionalProperties",
)


def imported(path: Path) -> Imported:
    """The program that the file at `path` makes. Raises UsageError where it is no prompty file."""
    return within_depth(lambda: _Prompty(path).imported(), str(path))


class _Prompty:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[Note] = []
        found = _FRONT.match(read_text(path))
        if found is None:
            raise UsageError(f"{path} has no front matter between `---` lines, so it is no prompty file")
        front = read_yaml(found[1], f"the front matter of {path}") or {}
        if not isinstance(front, dict):
            raise UsageError(f"the front matter of {path} is not a mapping of keys")
        self.front: dict[str, Any] = front
        self.body: str = found[2]

    def imported(self) -> Imported:
        declared = self._inputs()
        threads = tuple(name for name, entry in declared.items() if entry["type"] == "messages")
        body = _TOOLS.sub("", self.body, count=1)
        if body != self.body:
            self._say(
                "modules", "the tools that stand before the messages: `tools` of a module names those of the program"
            )
        prompt = roles.split(body, threads=threads)
        self.notes += [Note("modules", text) for text in prompt.notes]
        self._template()
        given = {name: entry["type"] for name, entry in declared.items()}
        shaped = roles.shapes(prompt, given)
        for name in shaped:
            if name not in declared:
                self._say("inputs", f"the type of `{name}`, which nothing declares: it is taken as {shaped[name]}")
        for name in declared:
            if name not in shaped:
                self._say("inputs", f"the input `{name}`: the prompt never uses it")
        name = identifier(str(self.front.get("name") or self.path.stem)).lower()
        outputs, format = self._outputs()
        module: dict[str, Any] = {"lm": "model", "inputs": {}, "outputs": outputs, **prompt.layout(), **format}
        for key, kind in shaped.items():
            entry = {**declared.get(key, {}), "type": kind}
            if kind == "messages":
                entry["default"] = []
            module["inputs"][key] = entry if len(entry) > 1 else kind
        for key in _LEFT:
            if self.front.get(key):
                self._say("file", f"`{key}`: {json.dumps(self.front[key], ensure_ascii=False, default=str)}")
        program = {"lms": {"model": self._lm()}, "modules": {name: module}, "tests": self._tests(module["inputs"])}
        return Imported(name, self.path.name, program, tuple(self.notes), str(self.front.get("description") or ""))

    def _say(self, section: str, text: str) -> None:
        self.notes.append(Note(section, text))

    def _mapping(self, *keys: str) -> dict[str, Any]:
        """The first of `keys` in `model` that holds a mapping."""
        model = self.front.get("model")
        found = [model.get(key) for key in keys] if isinstance(model, dict) else []
        return next((entry for entry in found if isinstance(entry, dict)), {})

    def _properties(self, *keys: str) -> dict[str, Any]:
        """Named properties, however the front matter lists them."""
        value: Any = next((self.front[key] for key in keys if self.front.get(key)), {})
        if isinstance(value, dict) and isinstance(value.get("properties"), list | dict):
            value = value["properties"]
        if isinstance(value, list):
            value = {
                entry.get("name"): entry for entry in value if isinstance(entry, dict) and _is_name(entry.get("name"))
            }
        found = value if isinstance(value, dict) else {}
        for name in found:
            if not _is_name(name):
                self._say("inputs", f"`{name}` of `{keys[0]}`, which is no name")
        return {name: entry for name, entry in found.items() if _is_name(name)}

    def _inputs(self) -> dict[str, dict[str, Any]]:
        """`{type, about, default}` of each input, from its declaration, its value, or the sample's."""
        found: dict[str, dict[str, Any]] = {}
        for name, entry in {**self._sample(), **self._properties("inputs", "inputSchema")}.items():
            found[name] = self._field(name, entry)
        return found

    def _field(self, name: str, entry: Any) -> dict[str, Any]:
        if not isinstance(entry, dict) or not {"type", "kind"} & entry.keys():
            return {"type": type_of(entry)}
        written = str(entry.get("kind") or entry.get("type")).lower()
        if written not in _TYPES:
            self._say("inputs", f"the type `{written}` of `{name}`: it is taken as str")
        field: dict[str, Any] = {"type": _TYPES.get(written, "str")}
        if entry.get("description"):
            field["about"] = str(entry["description"])
        if entry.get("default") is not None and not entry.get("required"):
            field["default"] = entry["default"]
        return field

    def _outputs(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The module's outputs; declared ones are read from JSON, which is how prompty asks for them."""
        fields = {name: self._field(name, entry) for name, entry in self._properties("outputs", "outputSchema").items()}
        if not fields:
            return {"output": "str"}, {}
        return {name: entry if len(entry) > 1 else entry["type"] for name, entry in fields.items()}, {"format": "json"}

    def _lm(self) -> dict[str, Any]:
        model = self.front.get("model")
        connection = self._mapping("configuration", "connection")
        own = model if isinstance(model, dict) else {}
        kind = connection.get("type") or own.get("provider")
        where = models.provider(kind)
        if where is None:
            where = (
                models.AZURE
                if connection.get("azure_deployment") or connection.get("azure_endpoint")
                else models.OPENAI
            )
            if kind:
                self._say("lms", f"the provider `{kind}`: the model is taken to answer at {where.prefix}")
        name = connection.get("azure_deployment") or own.get("id") or connection.get("name") or connection.get("model")
        name = model if isinstance(model, str) else name
        if not isinstance(name, str) or name.startswith("${"):
            self._say("lms", f"the model, which the file names as {json.dumps(name)}: write the one that you use")
            name = models.NO_MODEL
        key = connection.get("api_key") or connection.get("apiKey")
        variable = _ENV.match(str(key or ""))
        if key and variable is None:
            self._say(
                "lms", "the key that stands in the file: a key is never written into a program, so set it as a variable"
            )
        base = connection.get("azure_endpoint") or connection.get("endpoint") or connection.get("base_url")
        read = _ENV.match(str(base or ""))
        address = f"${{{{ env.{read[1]} }}}}" if read else base
        for left in ("api_version", "organization"):
            if connection.get(left):
                self._say("lms", f"`{left}: {connection[left]}`: set it as litellm's environment variable")
        if own.get("response", "first") != "first":
            self._say("lms", f"`response: {own['response']}`: a module has one reply")
        return models.lm(where, name, self._parameters(), variable[1] if variable else None, address)

    def _parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in self._mapping("parameters", "options").items():
            if key in _NO_PARAMETERS or (isinstance(value, str) and value.startswith("${")):
                self._say("lms", f"the parameter `{key}: {json.dumps(value, ensure_ascii=False, default=str)}`")
            elif value is not None:
                found[_OPTIONS.get(key, key)] = models.number(value)
        return found

    def _sample(self) -> dict[str, Any]:
        """The values of `sample`, which may be the name of a JSON file beside this one."""
        sample = self.front.get("sample")
        if isinstance(sample, str):
            name = re.sub(r"^\$\{file:(.*)\}$", r"\1", sample)
            try:
                sample = loads(read_text(self.path.parent / name))
            except (UsageError, ValueError):
                self._say("tests", f"the sample in {name}, which cannot be read as JSON")
        return {str(name): value for name, value in sample.items()} if isinstance(sample, dict) else {}

    def _tests(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The sample as a test that the program runs; nothing is expected of its answer yet."""
        given = {name: value for name, value in self._sample().items() if name in inputs}
        needed = [name for name, entry in inputs.items() if not (isinstance(entry, dict) and "default" in entry)]
        lacking = [name for name in needed if name not in given]
        if given and lacking:
            self._say("tests", f"the sample as a test: it gives no `{lacking[0]}`")
        return {"the sample runs": {"inputs": given, "expect": {}}} if given and not lacking else {}

    def _template(self) -> None:
        template = self.front.get("template")
        kind = template.get("format", template.get("type")) if isinstance(template, dict) else template
        kind = kind.get("kind") if isinstance(kind, dict) else kind
        if str(kind or "jinja2") not in ("jinja2", "jina2") and re.search(r"\{\{[#^/>{&]", self.body):
            self._say("modules", f"sections of the {kind} template: write them as Jinja, which lmprog renders")
        if "![" in self.body:
            self._say("modules", "images and files named by `![...]` in the prompt: they are sent as text")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name == identifier(name)
