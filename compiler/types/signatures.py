"""Signatures of Python functions in types of the language."""

from __future__ import annotations

import ast
import dataclasses
import datetime
import enum
import inspect
import types
import typing
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.plan import Field
from lmprog.compiler.types import pydantic_models
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, JSON, STR, UNKNOWN, Enum, ListOf, Object, Optional, Type
from lmprog.compiler.types.python_reference import ImportFailed, PythonReference, load
from lmprog.compiler.yaml.files import NotRead, read_text


@dataclass(frozen=True, eq=False)
class Signature:
    """The parameters of a Python function by name (`has_default`: it may be left out), and the type of its result; `returns`
    is UNKNOWN without an annotation.

    `open`: any further named argument is taken (`**kwargs`). `unnamed`: arguments without a name are taken (`*args`),
    which no LM can give. `about` is the function's docstring (None: it has none), `returns_score` is True where it is
    annotated to return a Score.
    """

    parameters: Mapping[str, Field]
    returns: Type
    open: bool = False
    about: str | None = None
    returns_score: bool = False
    unnamed: bool = False


def signature(reference: PythonReference, imports: bool) -> Signature | None:
    """Return the signature of the function or class that `reference` names. With `imports` it is imported, which runs user
    code; without, its file is parsed.

    None where Python has no signature for it (as for functions in C), and without `imports` where it is in a module
    instead of a file, or is no `def` at the top level. Raises ImportFailed where it cannot be imported or called, and
    without `imports` where the file cannot be read or has no such name.
    """
    if not imports:
        return _parsed(reference) if reference.file is not None else None
    function = load(reference)
    if not callable(function):
        raise ImportFailed(f"`{reference.name}` is no function")
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    target = function if not inspect.isclass(function) else function.__init__
    try:
        hints, full = typing.get_type_hints(target), typing.get_type_hints(target, include_extras=True)
    except Exception:
        hints, full = {}, {}
    parameters: dict[str, Field] = {}
    is_open = unnamed = False
    for name, parameter in found.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            unnamed = True
        else:
            given = parameter.default is not parameter.empty
            parameters[name] = Field(
                annotated(hints.get(name, parameter.empty)),
                default=parameter.default if given else None,
                has_default=given,
                schema=pydantic_models.hint_schema(full[name]) if _says_more(full.get(name)) else None,
            )
    returned = hints.get("return", found.return_annotation)
    return Signature(
        parameters,
        annotated(returned),
        is_open,
        inspect.getdoc(function),
        getattr(returned, "__name__", "") == "Score",
        unnamed,
    )


def _says_more(hint: Any) -> bool:
    """Return whether an annotation says more of its values than a type of the language does, as bounds and formats."""
    if typing.get_origin(hint) in (typing.Annotated, typing.Literal) or hasattr(hint, "model_fields"):
        return True
    if isinstance(hint, type) and (hint in _TEXTS or issubclass(hint, enum.Enum)):
        return True
    return any(_says_more(argument) for argument in typing.get_args(hint))


_SIMPLE: dict[Any, Type] = {str: STR, int: INT, float: FLOAT, bool: BOOL}
_TEXTS = (datetime.date, datetime.datetime, datetime.time, uuid.UUID)
"""Types of Python whose values travel as texts."""


def annotated(hint: Any, depth: int = 0) -> Type:
    """Return the type of a Python annotation, or UNKNOWN where the language has no type for it, or a name in it cannot be
    resolved.

    Tuples are lists, mappings json, dates texts; dataclasses, typed dictionaries and pydantic models are objects. Parts
    nested more deeply than 8, as in a model that contains itself, are json. `depth` is the level of nesting so far.
    """
    if depth > 8:
        return JSON
    if isinstance(hint, type) and hint in _SIMPLE:  # not every other annotation can be hashed
        return _SIMPLE[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        kind = annotated(inner[0], depth + 1) if len(inner) == 1 else UNKNOWN
        return Optional(kind) if len(inner) < len(arguments) else kind
    if origin is typing.Literal and all(isinstance(argument, str) for argument in arguments):
        return Enum(tuple(arguments))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [member.value for member in hint]
        if values and all(isinstance(value, str) for value in values):
            return Enum(tuple(values))
        return INT if values and all(type(value) is int for value in values) else UNKNOWN
    if hint in _TEXTS:
        return STR
    if origin is typing.Annotated:
        return annotated(arguments[0], depth + 1)
    is_list = hint is list or (isinstance(origin, type) and issubclass(origin, list | tuple))
    if is_list or getattr(origin, "__name__", "") in ("Sequence", "Iterable", "Collection"):
        items = {annotated(argument, depth + 1) for argument in arguments if argument is not Ellipsis}
        return ListOf(items.pop() if len(items) == 1 else UNKNOWN)  # a tuple may have an item of each type
    if hint is dict or origin is dict or getattr(origin, "__name__", "") in ("Mapping", "MutableMapping"):
        return JSON
    if hasattr(hint, "model_fields"):
        root = getattr(hint, "__pydantic_root_model__", False)
        return annotated(hint.model_fields["root"].annotation, depth + 1) if root else pydantic_type(hint, depth)
    if (dataclasses.is_dataclass(hint) and isinstance(hint, type)) or typing.is_typeddict(hint):
        try:
            hints = typing.get_type_hints(hint)
        except Exception:  # a name in an annotation that exists for type checkers alone
            return UNKNOWN
        names = [each.name for each in dataclasses.fields(hint)] if dataclasses.is_dataclass(hint) else [*hints]
        return Object(tuple((name, annotated(hints[name], depth + 1)) for name in names))
    return UNKNOWN


def pydantic_type(model: Any, depth: int = 0) -> Object:
    """Return the object type of a pydantic model class, with the types of its fields (by their names, not aliases) and its
    name as `source`; it validates no values. `depth` is the level of nesting so far."""
    fields = []
    for name, info in model.model_fields.items():
        fields.append((name, annotated(info.annotation, depth + 1)))
    return Object(tuple(fields), source=model.__qualname__)


def _parsed(reference: PythonReference) -> Signature | None:
    """Return the signature of a function in a file that is parsed; None where the name is there and is no function of the
    top level. Raises ImportFailed where the file cannot be read or has no such name."""
    assert reference.file is not None
    try:
        tree = ast.parse(read_text(reference.file))
    except NotRead as error:
        raise ImportFailed(f"cannot read {reference.file}: {error}") from error
    except (SyntaxError, ValueError) as error:
        raise ImportFailed(f"cannot read {reference.file.name}: {error}") from error
    except (RecursionError, MemoryError) as error:  # both are what Python's parser raises
        raise ImportFailed(f"cannot read {reference.file.name}: it is nested too deeply") from error
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == reference.name:
            return _from_tree(node)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom | ast.If | ast.Try):
            names |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            names |= {
                (a.asname or a.name)
                for inner in ast.walk(node)
                for a in getattr(inner, "names", [])
                if isinstance(a, ast.alias)
            }
    if reference.name in names or "*" in names:
        return None
    raise ImportFailed(f"there is no `{reference.name}` in {reference.file.name}")


def _from_tree(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Signature:
    parameters: dict[str, Field] = {}
    positional = [*node.args.posonlyargs, *node.args.args]
    without = len(positional) - len(node.args.defaults)
    for position, argument in enumerate(positional):
        parameters[argument.arg] = Field(_written(argument.annotation), has_default=position >= without)
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        parameters[argument.arg] = Field(_written(argument.annotation), has_default=default is not None)
    text = ast.unparse(node.returns) if node.returns else ""
    return Signature(
        parameters,
        _written(node.returns),
        node.args.kwarg is not None,
        ast.get_docstring(node),
        text.rpartition(".")[2] == "Score",
        node.args.vararg is not None,
    )


def _written(node: ast.expr | None) -> Type:
    """Return the type of an annotation that was only parsed; UNKNOWN for None and for one that needs an import to be known."""
    if node is None:
        return UNKNOWN
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return _written(ast.parse(node.value, mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return UNKNOWN
    if isinstance(node, ast.Name):
        return {"str": STR, "int": INT, "float": FLOAT, "bool": BOOL, "dict": JSON}.get(node.id, UNKNOWN)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id in ("list", "List", "Sequence", "Iterable"):
            return ListOf(_written(node.slice))
        if node.value.id in ("dict", "Dict", "Mapping"):
            return JSON
        if node.value.id == "Optional":
            return Optional(_written(node.slice))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = [node.left, node.right]
        inner = [side for side in sides if not (isinstance(side, ast.Constant) and side.value is None)]
        kind = _written(inner[0]) if len(inner) == 1 else UNKNOWN
        return Optional(kind) if len(inner) < len(sides) else kind
    return UNKNOWN
