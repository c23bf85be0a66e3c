"""A Python file that uses DSPy, read as a syntax tree: its classes, functions, LMs and modules. No code is run."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lmprog.boundary.secret_forms import without
from lmprog.errors import UsageError
from lmprog.imports.dspy_signatures import Signature, Signatures
from lmprog.imports.files import read_text
from lmprog.imports.program import Note
from lmprog.imports.secrets_in import NAME, SHAPE

_ASKS: dict[str, Literal["predict", "reasoning", "agent"]] = {
    "Predict": "predict", "TypedPredictor": "predict", "ChainOfThought": "reasoning", "TypedChainOfThought": "reasoning",
    "ReAct": "agent", "ReActV2": "agent",
}  # fmt: skip
_INSTEAD = {
    "ProgramOfThought": "its LM writes code that is run", "CodeAct": "its LM writes code that is run",
    "RLM": "its LM explores long inputs by code", "MultiChainComparison": "it compares several replies",
}  # fmt: skip
"""Modules of DSPy that take a signature and do more than one call of an LM, each with what it does, for a note."""
_AROUND = {
    "BestOfN": "it keeps the best of several replies", "Refine": "it asks again with advice",
    "Parallel": "it runs calls at once",
}  # fmt: skip
_DEFAULT_TURNS = 20
_SETS = frozenset({"setdefault", "putenv", "setenv"})
"""Methods that give a value to the variable of the environment that they name first."""
_SHOWN = 90
_MAX_DEPTH = 8


@dataclass(frozen=True)
class Predictor:
    """An object of DSPy that asks an LM, as the code makes it: its path as DSPy names it, its signature, and its kind.

    `reasoning` asks for a reasoning before the outputs; `agent` has `tools`, names of functions, and at most `turns` turns.
    """

    path: str
    signature: Signature
    kind: Literal["predict", "reasoning", "agent"] = "predict"
    tools: tuple[str, ...] = ()
    turns: int = 0

    @property
    def asked(self) -> Signature:
        """The signature with which the LM is asked: with the output `reasoning` before the others for that kind."""
        return self.signature.reasoned() if self.kind == "reasoning" else self.signature


@dataclass(frozen=True)
class Instance:
    """An object whose class, at `node` of the syntax tree, is a DSPy module defined in the file.

    `path` is its path as DSPy names it, `attributes` are its attributes by name.
    """

    node: ast.ClassDef
    path: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Retriever:
    """An object of DSPy that finds passages, by the `name` it has in the code; a program of lmprog has no such object."""

    name: str


@dataclass(frozen=True)
class Constant:
    """A plain value in the code of a DSPy program: a literal, or a list, tuple, dict or set of literals."""

    value: Any


class DspyFile:
    """A Python file that uses DSPy, as a syntax tree: the classes, functions and plain values of its top level by name,
    and the notes on it. No code of it is run. Raises UsageError where the file cannot be read, is no Python, or is
    nested too deeply.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, read_text(path)
        try:
            self.tree = ast.parse(self.text)
        except (SyntaxError, ValueError) as error:
            raise UsageError(f"{path} is no Python that can be read: {' '.join(str(error).split())}") from None
        except (RecursionError, MemoryError):  # Python's parser raises the latter for nesting beyond its own limit
            raise UsageError(f"{path} is nested too deeply to read") from None
        self.notes: list[Note] = []
        self._said: set[tuple[ast.AST, str]] = set()
        self.handled: set[ast.stmt] = set()
        """Statements of the top level that became a part of the program, so that no note speaks of them."""
        found = list(self.tree.body)
        self.classes = {node.name: node for node in found if isinstance(node, ast.ClassDef)}
        self.functions = {node.name: node for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        self.followed: set[str] = set()
        """Names of the module classes and constants that became a part of the program."""
        self.files: dict[str, str] = {}
        """Names that are imported from another file of the folder, each with `FILE.py:NAME`."""
        self._modules: set[str] = set()
        self._names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            self._import(node)
        self.signatures = Signatures(self.classes, self.dspy_name, lambda node, why: self.say("modules", node, why))
        self.secrets = frozenset(value for node in ast.walk(self.tree) for value in _secrets(node))
        """Texts of the file that look like keys; they are written neither to the program nor to notes."""
        self.constants = dict(self._constants())

    def _import(self, node: ast.AST) -> None:
        """Keep the names that an import of DSPy or of a file of the same folder defines; other nodes change nothing."""
        if isinstance(node, ast.Import):
            self._modules |= {one.asname or one.name for one in node.names if one.name.partition(".")[0] == "dspy"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dspy":
            self._names |= {one.asname or one.name: one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and (self.path.parent / f"{node.module}.py").is_file():
            self.files |= {one.asname or one.name: f"{node.module}.py:{one.name}" for one in node.names}

    def _constants(self) -> Iterator[tuple[str, Constant]]:
        """Yield the names that the top level sets to plain values, without values in which a text looks like a key."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                if any(map(self.is_key, ast.walk(node.value))):
                    continue
                try:
                    yield node.targets[0].id, Constant(ast.literal_eval(node.value))
                except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                    continue

    def dspy_name(self, node: ast.AST) -> str | None:
        """Return the last name of an expression that stands for a part of DSPy, as `Predict` for `dspy.Predict`, also
        where the file imports it under another name; None for any other expression.
        """
        if isinstance(node, ast.Name):
            return self._names.get(node.id)
        if not isinstance(node, ast.Attribute):
            return None
        root: ast.AST = node
        while isinstance(root, ast.Attribute):
            root = root.value
        return node.attr if isinstance(root, ast.Name) and root.id in self._modules else None

    def is_module(self, node: ast.ClassDef, depth: int = 0) -> bool:
        """Return whether a class is a module of DSPy, by one of its bases, also through at most 8 other classes of the
        file. `depth` is the number of classes passed so far.
        """
        names = [self.dspy_name(base) for base in node.bases]
        own = [self.classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in self.classes]
        return bool({"Module", "Program"} & set(names)) or (
            depth < _MAX_DEPTH and any(self.is_module(one, depth + 1) for one in own)
        )

    def say(self, section: str, node: ast.AST, why: str = "", mark: str = "not imported") -> None:
        """Add a note on the part of the code at `node`, with its line and the beginning of its text, to the section of the
        program that it concerns; a note that there is already is not repeated.

        `why` is added to the note (empty: nothing is), `mark` is its kind.
        """
        if (node, why) in self._said:
            return
        self._said.add((node, why))
        line, end = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
        lines = f"lines {line} to {end}" if isinstance(node, ast.stmt) and end > line else f"line {line}"
        note = Note(section, f"{lines}: `{self.source(node)}`{f': {why}' if why else ''}", mark)
        if note not in self.notes:
            self.notes.append(note)

    def source(self, node: ast.AST) -> str:
        """Return the beginning of the Python text of a node in one line: with `***` in place of keys, and `...` after
        90 characters where it is longer.
        """
        text = ast.get_source_segment(self.text, node) or ""
        for part in filter(self.is_key, ast.walk(node)):  # as it is written: with escapes, or in several pieces
            text = without(text, [ast.get_source_segment(self.text, part) or text], "***")
        text = " ".join(text.split())
        text = without(text, sorted(self.secrets, key=len, reverse=True), "***")
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

    def is_key(self, node: ast.AST) -> bool:
        """Return whether a node is a text that looks like a key, by its form or by the name that it is given to."""
        value = node.value if isinstance(node, ast.Constant) else None
        return isinstance(value, str) and (value in self.secrets or SHAPE.search(value) is not None)

    def signature(self, node: ast.AST) -> Signature | None:
        """Return the signature that an expression gives: a class, a text such as `q -> a`, a call of `dspy.Signature`,
        a name set to one of these, or a method of one, such as `with_instructions`; None, without a note, where it
        gives none that can be read.
        """
        if isinstance(node, ast.Name) and node.id in self.classes:
            return self.signatures.of_class(self.classes[node.id])
        if isinstance(node, ast.Name):
            before = [one for one in self.tree.body if isinstance(one, ast.Assign) and one.lineno < node.lineno]
            made = [one for one in before if any(isinstance(to, ast.Name) and to.id == node.id for to in one.targets)]
            return self.signature(made[-1].value) if made else None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.signatures.of_text(node, node.value)
        if not isinstance(node, ast.Call):
            return None
        if (
            self.dspy_name(node.func) == "Signature"
            and node.args
            and isinstance(text := plain_value(node.args[0]), str)
        ):
            given = [*node.args[1:2], *(one.value for one in node.keywords if one.arg == "instructions")]
            instructions = plain_value(given[0]) if given else None
            return self.signatures.of_text(node, text, instructions if isinstance(instructions, str) else None)
        if isinstance(node.func, ast.Attribute):
            inner = self.signature(node.func.value)
            words = plain_value(node.args[0]) if node.args else None
            if inner is not None and node.func.attr == "with_instructions" and isinstance(words, str):
                return Signature(inner.inputs, inner.outputs, words)
            if inner is not None:
                self.say("modules", node, "what it changes in the signature")
            return inner
        return None

    def predictor(self, node: ast.AST, path: str) -> Predictor | None:
        """Return the predictor that a call makes, for the path `path` in DSPy; None, without a note, for a call that
        makes none that can be read, and for what is no call. What the module will not do as DSPy does gets a note, such
        as several tries or options.
        """
        if not isinstance(node, ast.Call):
            return None
        name = self.dspy_name(node.func) or ""
        given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        if name in _AROUND:
            inner = given.get("module") or (node.args[0] if node.args else None)
            found = self.predictor(inner, path) if inner is not None else None
            if found is not None:
                self.say("modules", node, f"{_AROUND[name]}; the module asks once")
            return found
        if name not in _ASKS and name not in _INSTEAD:
            return None
        written = node.args[0] if node.args else given.get("signature")
        signature = self.signature(written) if written is not None else None
        if signature is None:
            return None
        if name in _INSTEAD:
            self.say("modules", node, f"{_INSTEAD[name]}; the module asks once")
        for key, value in given.items():
            if key not in ("signature", "tools", "max_iters"):
                self.say("modules", value, f"`{key}` of {name}")
        kind = _ASKS.get(name, "reasoning")
        if kind != "agent":
            return Predictor(path, signature, kind)
        tools = given.get("tools") or (node.args[1] if len(node.args) > 1 else None)
        turns = plain_value(given["max_iters"]) if "max_iters" in given else _DEFAULT_TURNS
        return Predictor(
            path,
            signature,
            kind,
            tuple(dict.fromkeys(self._tools(tools))),
            turns if isinstance(turns, int) else _DEFAULT_TURNS,
        )

    def _tools(self, node: ast.AST | None) -> Iterator[str]:
        """Yield the names of the functions in the argument `tools` of an agent (None: it has none) that this file defines or
        imports from a file beside it; any other tool gets a note.
        """
        for item in node.elts if isinstance(node, ast.List | ast.Tuple) else [] if node is None else [node]:
            called = (
                item.args[0]
                if isinstance(item, ast.Call) and self.dspy_name(item.func) == "Tool" and item.args
                else item
            )
            if isinstance(called, ast.Name) and (called.id in self.functions or called.id in self.files):
                yield called.id
            else:
                self.say("tools", item, "it is no function of a file beside the program")


def _secrets(node: ast.AST) -> Iterator[str]:
    """Yield the texts of a node that look like keys: a part of a text that has the form of one, and a text, or the parts of
    one that is put together, that is given to an argument, a variable or a key of a dict with a name such as `api_key`, or
    to a variable of the environment by a call such as `os.environ.setdefault`.
    """
    pairs: list[tuple[ast.AST | str | None, ast.AST | None]] = []
    if isinstance(node, ast.keyword):
        pairs = [(node.arg, node.value)]
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        pairs = [(ast.unparse(target), node.value) for target in targets]
    elif isinstance(node, ast.Dict):
        pairs = list(zip(node.keys, node.values, strict=True))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SETS:
        pairs = list(itertools.pairwise(node.args))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from SHAPE.findall(node.value)
    for name, value in pairs:
        named = name if isinstance(name, str) else name.value if isinstance(name, ast.Constant) else ""
        if not isinstance(value, ast.Constant | ast.BinOp | ast.JoinedStr) or not NAME.search(str(named)):
            continue
        yield from (text for text in _literals(value) if len(text) > 3)


def _literals(node: ast.AST) -> Iterator[str]:
    """Yield the texts that a text is put together from, without those within the code that is put into it."""
    if isinstance(node, ast.BinOp):
        yield from _literals(node.left)
        yield from _literals(node.right)
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield from _literals(part)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def plain_value(node: ast.AST) -> Any:
    """Return the value of a Python expression made of literals alone (None too for the literal `None`); None for any other."""
    try:
        return ast.literal_eval(node)  # type: ignore[arg-type]
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Sequence[ast.arg]:
    """Return the parameters of a function or method in order, those by name alone last, without a first `self`, `*args`
    and `**kwargs`.
    """
    found = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return found[1:] if found and found[0].arg == "self" else found


def defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any]:
    """Return the default values of a function's parameters, by name: None where one is no plain value. A parameter without a
    default is left out.
    """
    places = [*node.args.posonlyargs, *node.args.args]
    pairs = [*zip(places[len(places) - len(node.args.defaults) :], node.args.defaults, strict=True)]
    pairs += [
        (one, value)
        for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        if value is not None
    ]
    return {one.arg: plain_value(value) for one, value in pairs}
