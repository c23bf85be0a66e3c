"""The import of a DSPy program from its file of Python, from the state that it has saved, or from both. No code is run,
and no pickle is read.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmprog.compiler.types.lattice import STR, mismatch
from lmprog.errors import UsageError
from lmprog.imports import models
from lmprog.imports.dspy_code import DspyFile, Predictor
from lmprog.imports.dspy_forward import Forward
from lmprog.imports.dspy_inputs import field_name
from lmprog.imports.dspy_lms import configured, lm_entry
from lmprog.imports.dspy_saved import Saved, fields_of_demo, read_saved
from lmprog.imports.dspy_signatures import Signature, SignatureField, written
from lmprog.imports.files import within_depth
from lmprog.imports.program import Imported, Note, identifier, wrapped
from lmprog.imports.values import fitted

_PROMPTS = (
    "the prompts: DSPy's adapters write fields between [[ ## marks ## ]], and here each module has lmprog's standard layout; "
    "score the program anew before you compare it with figures of DSPy"
)
_AGENT = "You are an Agent. In each episode"
"""A part of the instructions that DSPy writes itself for the turns of an agent."""


def imported(path: Path, folder: Path, code: Path | None = None, chosen: str | None = None) -> Imported:
    """Convert a DSPy program to a program whose file will be in `folder` (tools name their Python files from there); nothing
    is written.

    `path` is its Python file, or a state that DSPy saved as JSON; `code` is the Python file of such a state (None: it
    is not known), and `chosen` names the module class to convert (None: the last that no other class of the file makes an
    object of). Without code the names and types of fields are those that the state shows, with notes on what is assumed.
    Raises UsageError where a file cannot be read or holds no such program or class, for a pickle, and for `code` beside a
    Python file.
    """
    if path.is_dir() or path.suffix == ".pkl":
        raise UsageError(
            f"{path} is a pickle, which runs code when it is read: load it with DSPy, and write program.save('program.json')"
        )
    return within_depth(lambda: _Program(path, folder, code, chosen).imported(), str(path))


class _Program:
    """The conversion of one DSPy program: what its files hold, and the LMs, modules and notes gathered so far."""

    def __init__(self, path: Path, folder: Path, code: Path | None, chosen: str | None) -> None:
        if path.suffix == ".py" and code is not None:
            raise UsageError(f"{path} is code already; --code stands beside a saved program, a file of JSON")
        self.path, self.folder, self.chosen = path, folder, chosen
        self.saved = {} if path.suffix == ".py" else read_saved(path)
        source = path if path.suffix == ".py" else code
        self.file = DspyFile(source) if source is not None else None
        self.notes: list[Note] = [Note("modules", _PROMPTS, "differs")]
        self.lms: dict[str, dict[str, Any]] = {}
        self.modules: dict[str, dict[str, Any]] = {}

    def imported(self) -> Imported:
        """Return the converted program. Raises UsageError where no module could be made."""
        sections = self._of_code(self.file) if self.file is not None else self._of_saved()
        if not self.modules:
            source = self.file.path if self.file is not None else self.path
            raise UsageError(
                f"{source} holds no signature of DSPy that a module asks with, so there is nothing to import"
            )
        notes = [*self.notes, *(self.file.notes if self.file is not None else ())]
        name = identifier(self.path.stem).lower()
        origin = self.path.name + (f" and {self.file.path.name}" if self.file and self.file.path != self.path else "")
        sections |= {"lms": self.lms, "modules": self.modules}
        return Imported(name, origin, sections, tuple(dict.fromkeys(notes)))

    def _say(self, section: str, text: str) -> None:
        """Add a note on a part that is not imported, `text`, to a section of the program."""
        self.notes.append(Note(section, text))

    def _of_saved(self) -> dict[str, dict[str, Any]]:
        """Add a module for each predictor of the saved state, but for those of agents, and return the sections that use the
        modules: inputs, outputs and steps side by side, or none for a single module. Raises UsageError where there are
        agents alone.
        """
        predictors = {}
        for path, state in self.saved.items():
            name = "" if path == "predict" else path.removesuffix(".predict")
            if state.is_agent:
                self._say(
                    "modules", f"`{path}`, a part of an agent: the file does not name its tools; --code FILE.py does"
                )
                continue
            id = base = identifier(name) if name else identifier(self.path.stem)
            number = 2
            while id in predictors:
                id, number = f"{base}_{number}", number + 1
            signature = state.signature(lambda text, id=id: self._say("modules", f"of `{id}`: {text}"))  # type: ignore[misc]
            predictors[id] = Predictor(name, signature)
            self._module(id, predictors[id], state, None)
        if not predictors:
            raise UsageError(f"{self.path} holds agents alone; name the file of Python too: --code FILE.py")
        if len(predictors) > 1:
            self._say("steps", "the code between the modules: each stands by itself; --code FILE.py reads it")
        return _side_by_side(predictors)

    def _of_code(self, file: DspyFile) -> dict[str, dict[str, Any]]:
        """Add a module for each predictor that the code calls, with its saved state, and return the inputs, outputs, tools
        and steps of the program. Where no module class calls one, the predictors of the file stand side by side.
        """
        made = Forward(file, self.folder)
        default = configured(file)
        node = self._class(file)
        outputs: dict[str, str] = {}
        if node is not None:
            outputs = made.program(node, self._call_of(file, node))
            predictors = dict(made.modules)
        else:
            predictors = dict(self._loose(file))
        alone = not predictors or node is None
        if not predictors:
            predictors = {identifier(path): predictor for path, (predictor, _) in made.predictors.items()}
            self._say("steps", "the way from one module to the next: each stands by itself")
        states = dict(self.saved)
        for id, predictor in predictors.items():
            own = self._state_of(predictor, states)
            self._module(id, self._typed(id, predictor, made), own, default, made)
        for path in states:
            self._say("modules", f"the saved state of `{path}`, which no module here has")
        self._rest(file, node)
        if alone:
            return {**_side_by_side(predictors), "tools": made.tools}
        inputs = {name: one.entry() for name, one in made.inputs.items()}
        for name, one in made.inputs.items():
            if name in made.stand_ins:
                self._say("inputs", f"where `{name}` comes from: it is an input until you write a step that makes it")
            elif one.type is None:
                self._say("inputs", f"the type of `{name}`, which nothing says: {one.entry()}")
        if not outputs:
            read = str(made.steps)
            last = [id for id in made.steps if f"steps.{id}." not in read]
            outputs = {
                f"{id}_{name}": wrapped(f"steps.{id}.{name}") for id in last for name in self._outputs_of(made, id)
            }
        return {"inputs": inputs, "outputs": outputs, "tools": made.tools, "steps": made.steps}

    def _typed(self, id: str, predictor: Predictor, made: Forward) -> Predictor:
        """Return the predictor of the module `id`, where inputs whose type its signature leaves open have the type of the
        value that a step passes; a note tells of each such type but `str`."""
        kinds = {name: kind for (module, name), kind in made.kinds.items() if module == id and kind != STR}
        for name, kind in kinds.items():
            self._say("modules", f"the type of `{name}` of `{id}`, which nothing declares: {kind}, as it is given")
        inputs = {
            name: replace(field, type=kinds.get(name, field.type)) for name, field in predictor.signature.inputs.items()
        }
        return replace(predictor, signature=replace(predictor.signature, inputs=inputs))

    def _outputs_of(self, made: Forward, step: str) -> list[str]:
        """Return the names of the outputs of a step by its id: those of its module, or `result` for a tool."""
        entry = made.steps[step]
        return list(self.modules[entry["module"]]["outputs"]) if "module" in entry else ["result"]

    def _class(self, file: DspyFile) -> ast.ClassDef | None:
        """Return the module class to convert: the chosen one, else the last that no module class of the file makes an object
        of; None where the file has none. Raises UsageError where the chosen one is no module class of the file.
        """
        found = {name: node for name, node in file.classes.items() if file.is_module(node)}
        if self.chosen is not None:
            if self.chosen not in found:
                known = ", ".join(found) or "it has none"
                raise UsageError(f"{file.path} has no module class {self.chosen!r}; its module classes: {known}")
            return found[self.chosen]
        inner = {
            part.func.id
            for node in found.values()
            for part in ast.walk(node)
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)
        }
        outer = [node for name, node in found.items() if name not in inner]
        return outer[-1] if outer else None

    @staticmethod
    def _call_of(file: DspyFile, node: ast.ClassDef) -> ast.Call | None:
        """Return the first call by which the top level makes an object of the class at `node`; None where there is none. An
        assignment of this call counts as handled, so that no note speaks of it.
        """
        for statement in file.tree.body:
            if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for part in ast.walk(statement):
                if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == node.name:
                    if isinstance(statement, ast.Assign) and statement.value is part:
                        file.handled.add(statement)
                    return part
        return None

    @staticmethod
    def _loose(file: DspyFile) -> Iterator[tuple[str, Predictor]]:
        """Yield the predictors that the top level assigns to names, each with the id of its module; where there are none, one
        for each signature class of the file.
        """
        found = False
        for node in file.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                predictor = file.predictor(node.value, node.targets[0].id)
                if predictor is not None:
                    file.handled.add(node)
                    found = True
                    yield identifier(node.targets[0].id), predictor
        if found:
            return
        for name, node in file.classes.items():
            if file.signatures.is_signature(node):
                yield identifier(name).lower(), Predictor(name, file.signatures.of_class(node))

    def _state_of(self, predictor: Predictor, states: dict[str, Saved]) -> Saved | None:
        """Take all saved states of a predictor out of `states`, by their DSPy paths, and return one: of an agent, that of its
        final answer before that of its turns, whose instructions get a note where they were tuned. None where there is none.
        """
        inside = f"{predictor.path}.predict"
        names = [predictor.path, inside, f"{predictor.path}.extract.predict", f"{predictor.path}.react"]
        if set(states) in ({""}, {"predict"}):
            names += ["", "predict"]
        found = {name: states.pop(name) for name in names if name in states}
        turns = found.get(names[3])
        if turns is not None and len(found) > 1 and _AGENT not in turns.instructions:
            self._say(
                "modules", f"the saved instructions for the turns of the agent `{predictor.path}`: {turns.instructions}"
            )
        return next(iter(found.values()), None)

    def _module(
        self,
        id: str,
        predictor: Predictor,
        state: Saved | None,
        default: Mapping[str, Any] | None,
        made: Forward | None = None,
    ) -> None:
        """Add the module `id` for a predictor, and its LM and notes: with the tuned words, demos and LM of its saved `state`
        (None: none is known), else with `default`, the options of the LM that the code sets (None: none).

        `made` adds the tools of an agent to the program (None: without code an agent has no tools).
        """
        signature = predictor.asked if state is None else self._tuned(id, predictor, state)
        notes: list[Note] = []
        options = (state.lm if state is not None else None) or default
        if options is None:
            options = {}
            text = f"the model, which nothing here names: write the one that you use in place of {models.NO_MODEL}"
            notes.append(Note("lms", text))
        saved = state is not None and state.lm is not None
        lm = models.named(self.lms, lm_entry(options, notes, saved=saved), id)
        self.notes += notes
        module: dict[str, Any] = {
            "lm": lm,
            "inputs": {field_name(name, "input"): _entry(field) for name, field in signature.inputs.items()},
            "outputs": {field_name(name, "output"): _entry(field) for name, field in signature.outputs.items()},
            "instructions": signature.words,
        }
        if state is not None and predictor.kind != "agent":
            demos = list(self._demos(id, signature, state))
            module |= {"demos": demos} if demos else {}
        if predictor.kind == "agent":
            tools = [made.tool(name) for name in predictor.tools] if made is not None else []
            module |= {"tools": tools, "max_turns": predictor.turns + 1} if tools else {}
            if state is not None and state.demos:
                self._say("modules", f"the demos of the agent `{id}`: they hold what its turns were")
        for name in (*signature.inputs, *signature.outputs):
            kind = "input" if name in signature.inputs else "output"
            if field_name(name, kind) != name:
                self._say(
                    "modules", f"the name `{name}` of `{id}`, which templates use otherwise: `{field_name(name, kind)}`"
                )
        self.modules[id] = module

    def _tuned(self, id: str, predictor: Predictor, state: Saved) -> Signature:
        """Return the signature that a predictor asks with, with the saved instructions and, but for agents, the saved
        descriptions of fields; what was not saved stays. Saved fields that the signature lacks get a note.
        """
        signature = predictor.asked
        known = {**signature.inputs, **signature.outputs}
        if predictor.kind == "agent":
            return replace(signature, instructions=state.instructions or signature.instructions)
        strange = [name for name in state.fields if name not in known]
        if strange:
            self._say("modules", f"of `{id}`: the saved fields {', '.join(strange)}, which its signature does not have")

        def tuned(fields: Mapping[str, SignatureField]) -> dict[str, SignatureField]:
            return {name: replace(field, about=state.fields.get(name) or field.about) for name, field in fields.items()}

        return Signature(
            tuned(signature.inputs), tuned(signature.outputs), state.instructions or signature.instructions
        )

    def _demos(self, id: str, signature: Signature, state: Saved) -> Iterator[dict[str, Any]]:
        """Yield the saved demos of the module `id` as the spec writes them; one that lacks a field, or has a value of another
        type, is left out with a note.
        """
        known = {**signature.inputs, **signature.outputs}
        for number, demo in enumerate(state.demos, 1):
            given = fields_of_demo(demo)
            lacking = [name for name in known if given.get(name) is None and name != "reasoning"]
            present = {name: value for name, value in given.items() if name in known and value is not None}
            values = {name: fitted(value, known[name].type) for name, value in present.items()}
            whys = {name: mismatch(value, known[name].type) for name, value in values.items()}
            wrong = next((f"`{name}`: {why}" for name, why in whys.items() if why), None)
            if lacking or wrong:
                self._say("modules", f"demo {number} of `{id}`: {wrong or f'it has no `{lacking[0]}`'}")
                continue
            for name in given.keys() - known.keys():
                self._say("modules", f"`{name}` of the demos of `{id}`, which is no field of it")
            yield {
                field_name(name, "input" if name in signature.inputs else "output"): value
                for name, value in values.items()
            }

    def _rest(self, file: DspyFile, node: ast.ClassDef | None) -> None:
        """Add a note for each statement of the top level that has no place in the program; `node` is the converted class
        (None: none was)."""
        read = {name for name in file.signatures.used}
        for statement in file.tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom) or statement in file.handled or statement is node:
                continue
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue
            if isinstance(statement, ast.ClassDef) and statement.name in read | file.followed:
                continue
            if isinstance(statement, ast.Assign) and {ast.unparse(one) for one in statement.targets} <= file.followed:
                continue
            if isinstance(statement, ast.Assign) and file.signature(statement.value) is not None:
                continue
            file.say("file", statement, _why(file, statement))


def _why(file: DspyFile, node: ast.stmt) -> str:
    """Return advice for the note on a statement that has no place in a program: on another module class, and on a function
    that looks like a metric; empty for any other statement."""
    if isinstance(node, ast.ClassDef) and file.is_module(node):
        return f"another module class; --class {node.name} imports it"
    if isinstance(node, ast.FunctionDef) and {argument.arg for argument in node.args.args} & {
        "pred",
        "prediction",
        "trace",
    }:
        return "a metric, it seems: name a function for it under `metrics`"
    return ""


def _entry(field: SignatureField) -> Any:
    """Return a field as the spec writes it: its type, with its description in a mapping where it has one."""
    kind = written(field.type)
    if field.about is None:
        return kind
    return {"type": kind, "about": field.about}


def _side_by_side(predictors: Mapping[str, Predictor]) -> dict[str, dict[str, Any]]:
    """Return the inputs, outputs and steps of a program whose modules, by id, stand by themselves: a step calls each. Fields
    of one name and type share an input. Empty for a single module, which a program may have without steps.
    """
    if len(predictors) == 1:
        return {}
    inputs: dict[str, Any] = {}
    outputs, steps = {}, {}
    for id, predictor in predictors.items():
        given = {}
        for name, field in predictor.asked.inputs.items():
            own = name if inputs.get(name, written(field.type)) == written(field.type) else f"{id}_{name}"
            inputs[own] = written(field.type)
            given[field_name(name, "input")] = wrapped(f"inputs.{own}")
        steps[id] = {"module": id, "with": given}
        for name in predictor.asked.outputs:
            outputs[f"{id}_{identifier(name)}"] = wrapped(f"steps.{id}.{field_name(name, 'output')}")
    return {"inputs": inputs, "outputs": outputs, "steps": steps}
