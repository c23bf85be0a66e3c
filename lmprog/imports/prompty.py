"""A `.prompty` file (front matter, then the messages under role lines) as a program of one module.

Both generations of the front matter are read: `model.configuration` and `parameters` with `inputs` and `sample`, and
`model.connection` and `options` with `inputs`, `inputSchema` and `outputs` (lists or mappings of properties).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmprog.boundary.secret_forms import secrets_of_address
from lmprog.compiler.types.lattice import MESSAGES, Primitive, Type, mismatch
from lmprog.imports import models, prompty_file, roles
from lmprog.imports.files import within_depth
from lmprog.imports.original import NotRendered, Original
from lmprog.imports.program import Imported, Note, identifier
from lmprog.imports.prompt_module import KnownInputs, PromptModule, prompt_module, turn_messages, without_images
from lmprog.imports.secrets_in import masked
from lmprog.imports.shapes import uses
from lmprog.imports.values import fitted

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
    """Return the prompty file at `path` converted to a program of one module; nothing is written. Raises UsageError where it
    cannot be read, or is no prompty file.
    """
    return within_depth(lambda: _Prompty(path).imported(), str(path))


class _Prompty:
    """The conversion of one prompty file: its front matter and body, and the notes gathered so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        file = prompty_file.read(path)
        self.front, self.body = file.front, file.body
        self.notes = [Note(section, text) for section, text in file.notes]

    def imported(self) -> Imported:
        """Return the converted program: an LM, the module, and the sample, where there is one that fits, as a test."""
        declared = self._inputs()
        sample = self._sample()
        body = _TOOLS.sub("", self.body, count=1)
        if body != self.body:
            self._say(
                "modules", "the tools that stand before the messages: `tools` of a module names those of the program"
            )
        body, images = without_images(body, self._images(body, declared))
        jinja = self._is_jinja(body)
        body = body if jinja else _plain_mustache(body)
        original = Original(body)
        prompt = roles.split(body, threads=tuple(n for n, entry in declared.items() if entry["type"] == "messages"))
        model = self.front.get("model")
        if isinstance(model, dict) and model.get("api") == "completion":
            self._say("modules", "the completion API, for which the prompt is written: its text is the user's turn")
            original, prompt = Original(body.removesuffix("\n"), chat=False), roles.RolePrompt(None, body)
        self.notes += [Note("modules", text) for text in prompt.notes]
        name = identifier(str(self.front.get("name") or self.path.stem)).lower()
        outputs, format = self._outputs({*prompt.variables, *prompt.turns})
        values = {name: entry["default"] for name, entry in declared.items() if "default" in entry} | sample
        given = KnownInputs({name: entry["type"] for name, entry in declared.items()}, values, images=images)
        made = prompt_module(name, original, prompt, given, outputs)
        if made.differs and jinja:
            self.notes.append(Note("modules", f"the prompt of `{name}`: {made.differs}", "differs"))
        inputs = self._module_inputs(made, declared, sample)
        module = {"lm": "model", "inputs": inputs, "outputs": outputs, **made.layout, **format}
        for key in _LEFT:
            if self.front.get(key):
                left = masked(self.front[key], key)
                self._say("file", f"`{key}`: {json.dumps(left, ensure_ascii=False, default=str)}")
        tests = self._tests(made, prompt, sample, inputs)
        program = {"lms": {"model": self._lm()}, "modules": {name: module}, "tests": tests}
        return Imported(name, self.path.name, program, tuple(self.notes), str(self.front.get("description") or ""))

    def _say(self, section: str, text: str) -> None:
        """Add a note on a part that is not imported, `text`, to a section of the program."""
        self.notes.append(Note(section, text))

    def _mapping(self, *keys: str) -> dict[str, Any]:
        """Return the mapping under the first of `keys` in `model` that has one; empty where none has."""
        model = self.front.get("model")
        found = [model.get(key) for key in keys] if isinstance(model, dict) else []
        return next((entry for entry in found if isinstance(entry, dict)), {})

    def _properties(self, *keys: str) -> dict[str, Any]:
        """Return the entries by name under the first of `keys` that the front matter has: a mapping of them, a list of mappings
        with `name`, or either under `properties`. An entry whose name is no identifier is left out, of a mapping with a note.
        """
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
        """Return the declared inputs by name, each a mapping with `type` (as the language writes it; None where the file has
        only a value, which is the default), and where known `about` and `default`.
        """
        properties = self._properties("inputs", "inputSchema")
        return {name: self._field(name, entry) for name, entry in properties.items()}

    def _field(self, name: str, entry: Any) -> dict[str, Any]:
        """Return a property of the front matter as a mapping with `type`, and where known `about` and `default`; a note tells
        of a type that the language lacks, which becomes `str`.
        """
        if not isinstance(entry, dict) or not {"type", "kind"} & entry.keys():
            return {"type": None, "default": entry} if entry not in (None, "", {}) else {"type": "str"}
        written = str(entry.get("kind") or entry.get("type")).lower()
        if written not in _TYPES:
            self._say("inputs", f"the type `{written}` of `{name}`: it is taken as str")
        field: dict[str, Any] = {"type": _TYPES.get(written, "str")}
        if entry.get("description"):
            field["about"] = str(entry["description"])
        if entry.get("default") is not None and not entry.get("required"):
            field["default"] = entry["default"]
        return field

    def _outputs(self, inputs: set[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the module's outputs as the spec writes them, and the entry `format: json` where the file declares outputs,
        which prompty asks for as JSON. Else the only output is `output`, or `reply` where `inputs` has that name.
        """
        fields = {name: self._field(name, entry) for name, entry in self._properties("outputs", "outputSchema").items()}
        if not fields:
            return {"reply" if "output" in inputs else "output": "str"}, {}
        for field in fields.values():
            field.pop("default", None)
            field["type"] = field["type"] or "str"
        return {name: entry if len(entry) > 1 else entry["type"] for name, entry in fields.items()}, {"format": "json"}

    def _module_inputs(
        self, made: PromptModule, declared: Mapping[str, Any], sample: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the inputs of the module as the spec writes them, with descriptions and defaults of the file; a note tells of
        each that was renamed, has another type, or is not used. `declared` and `sample` are what the file has of each.
        """
        found: dict[str, Any] = {}
        kinds = {name: made.types[name] for name in (*declared, *sorted(made.types)) if name in made.types}
        for name, kind in kinds.items():
            entry = declared.get(name, {})
            if made.name(name) != name:
                self._say(
                    "inputs", f"the name of the input `{name}`, which has a meaning of its own: `{made.name(name)}`"
                )
            if name not in declared and name not in sample:
                self._say("inputs", f"the type of `{name}`, which nothing declares: it is taken as {kind}")
            elif entry.get("type") and kind != _declared(entry["type"]) and entry["type"] not in ("json", "list[json]"):
                self._say(
                    "inputs", f"the type of `{name}`, declared as {entry['type']} and used as another: now {kind}"
                )
            found[made.name(name)] = self._entry(name, kind, entry)
        for name in declared:
            if name not in made.types:
                self._say("inputs", f"the input `{name}`: the prompt never uses it")
        return {**found, **{name: entry for name, entry in made.inputs().items() if name not in found}}

    def _entry(self, name: str, kind: Type, declared: Mapping[str, Any]) -> Any:
        """Return an input as the spec writes it: its type, or a mapping with `about` and `default` of `declared` too. A
        value that stands there without a type is a sample, not a default; a default that does not fit the type is left
        out with a note, and that of earlier turns is an empty list.
        """
        entry: dict[str, Any] = {"type": str(kind)}
        if declared.get("about"):
            entry["about"] = declared["about"]
        default = [] if kind == MESSAGES else fitted(declared.get("default"), kind)
        if declared.get("type") is not None or kind == MESSAGES:
            if default is not None and mismatch(default, kind) is None:
                entry["default"] = default
            elif default is not None:
                self._say("inputs", f"the default of `{name}`: {mismatch(default, kind)}")
        return entry if len(entry) > 1 else str(kind)

    def _lm(self) -> dict[str, Any]:
        """Return the entry of `lms` for the model of the front matter, with notes on what is left out or guessed. A key or an
        address with a secret is never copied.
        """
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
            self._say(
                "lms", f"the model, which the file names as {json.dumps(name, default=str)}: write the one that you use"
            )
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
        if not read and isinstance(base, str) and secrets_of_address(base):
            self._say("lms", "the address of the model, which holds a secret: write `api_base`")
            address = None
        for left in ("api_version", "organization"):
            if connection.get(left):
                self._say("lms", f"`{left}: {connection[left]}`: set it as litellm's environment variable")
        if own.get("response", "first") != "first":
            self._say("lms", f"`response: {own['response']}`: a module has one reply")
        return models.lm(where, name, self._parameters(), variable[1] if variable else None, address)

    def _parameters(self) -> dict[str, Any]:
        """Return the parameters of requests by their name in the language; those that a module cannot have, references to
        variables, and what looks like a secret are left out with a note.
        """
        found: dict[str, Any] = {}
        for key, value in self._mapping("parameters", "options").items():
            if masked(value, str(key)) != value:
                self._say("lms", f"the parameter `{key}`, which holds what looks like a secret: set it as a variable")
            elif key in _NO_PARAMETERS or (isinstance(value, str) and value.startswith("${")):
                self._say("lms", f"the parameter `{key}: {json.dumps(value, ensure_ascii=False, default=str)}`")
            elif value is not None:
                found[_OPTIONS.get(key, key)] = models.number(value)
        return found

    def _sample(self) -> dict[str, Any]:
        """Return the values of `sample` by variable, without None; `sample` may name a JSON file, and gets a note where that
        cannot be read.
        """
        sample = self.front.get("sample")
        if isinstance(sample, str):
            name, sample = sample, prompty_file.json_beside(self.path, sample)
            if sample is None:
                self._say("tests", f"the sample in {name}, which cannot be read as JSON")
        found = sample if isinstance(sample, dict) else {}
        for name in found:
            if not _is_name(name):
                self._say("tests", f"`{name}` of the sample, which is no name")
        return {name: value for name, value in found.items() if _is_name(name) and value is not None}

    def _tests(
        self, made: PromptModule, prompt: roles.RolePrompt, sample: Mapping[str, Any], inputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the section `tests`: a test that runs the module on the values of the sample and expects nothing of its
        reply. Empty without a sample, and with a note where the sample lacks an input or a value of it does not fit.
        """
        given: dict[str, Any] = {}
        for name, kind in made.types.items():
            if name not in sample:
                continue
            value = sample[name]
            if name in prompt.loops:
                try:
                    value = turn_messages(prompt.loops[name], name, value, trims=False)
                except NotRendered:
                    continue
            wrong = mismatch(value := fitted(value, kind), kind)
            if wrong:
                self._say("tests", f"the sample's `{name}`: {wrong}")
            else:
                given[made.name(name)] = value
        needed = [name for name, entry in inputs.items() if not (isinstance(entry, dict) and "default" in entry)]
        lacking = [name for name in needed if name not in given]
        if given and lacking:
            self._say("tests", f"the sample as a test: it gives no `{lacking[0]}`")
        return {"the sample runs": {"inputs": given, "expect": {}}} if given and not lacking else {}

    def _images(self, body: str, declared: Mapping[str, Any]) -> list[str]:
        """Return the names of the inputs that are images: those declared so, and in files of the first generation those that
        `body` shows by `![...]({{ name }})`.
        """
        marked = re.findall(r"!\[[^\]]*\]\(\{\{-?\s*(\w+)\s*-?\}\}\)", body) if self._is_first() else []
        known = uses(body)
        shown = [name for name, entry in declared.items() if entry["type"] == "image"]
        return [*shown, *(name for name in dict.fromkeys(marked) if name in known and name not in shown)]

    def _is_first(self) -> bool:
        """Return whether the front matter is of the first generation, whose texts name images by `![...](...)`."""
        model = self.front.get("model")
        return isinstance(model, dict) and bool({"api", "configuration", "parameters"} & model.keys())

    def _is_jinja(self, body: str) -> bool:
        """Return whether the file's template is one of Jinja, as it is where nothing is said; other kinds (mustache) get a
        note on sections, and images in `body` that stay there get one too.
        """
        template = self.front.get("template")
        kind = template.get("format", template.get("type")) if isinstance(template, dict) else template
        kind = kind.get("kind") if isinstance(kind, dict) else kind
        jinja = str(kind or "jinja2") in ("jinja2", "jina2")
        if not jinja and re.search(r"\{\{[#^/>]", self.body):
            self._say("modules", f"sections of the {kind} template: write them as Jinja, which lmprog renders")
        if self._is_first() and re.search(r"!\[[^\]]*\]\(", body):
            self._say("modules", "images and files named by `![...]` in the prompt: they are sent as text")
        return jinja


def _plain_mustache(text: str) -> str:
    """Return a mustache text without its comments, and with `{{ }}` for the other ways to write a value."""
    text = re.sub(r"^[ \t]*\{\{![^}]*\}\}[ \t]*\n|\{\{![^}]*\}\}", "", text, flags=re.MULTILINE)
    return re.sub(
        r"\{\{(?:\{\s*([\w.]+)\s*\}|&\s*([\w.]+)\s*)\}\}", lambda found: f"{{{{{found[1] or found[2]}}}}}", text
    )


def _declared(words: str) -> Type | None:
    """Return the type for a simple type as the language writes it; None for a list."""
    return Primitive(words) if "[" not in words else None


def _is_name(name: object) -> bool:
    """Return whether a key of the file is a valid name of the language."""
    return isinstance(name, str) and name == identifier(name)
