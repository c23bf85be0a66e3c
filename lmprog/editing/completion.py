"""Completions at a place: keys, words of the language, names of the program, roots and fields of expressions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmprog.compiler.backends import prefixes
from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.functions import FUNCTIONS
from lmprog.compiler.model_table import PROVIDERS, names_of
from lmprog.compiler.plan import Field, Metric, ModuleCall, ProgramCall, Repeat, ToolCall
from lmprog.compiler.shape import Boolean, Choice, Lazy, ListOf, MapOf, Record, Shape
from lmprog.compiler.templates.signatures import FILTER_SIGNATURES
from lmprog.compiler.types.lattice import PRIMITIVES, Type
from lmprog.compiler.types.python_reference import ImportFailed, PythonReference
from lmprog.compiler.types.signatures import signature
from lmprog.compiler.yaml.program_files import yaml_files
from lmprog.compiler.yaml.source import Mapping as MappingNode
from lmprog.compiler.yaml.source import Scalar, Sequence
from lmprog.editing.cursor import Cursor, cursor_at, in_string, word
from lmprog.editing.grammar import KEYS, NAMED, PROGRAMS, is_type
from lmprog.editing.scope import fields, layout_names, roots, steps_by_path, visible_steps
from lmprog.editing.session import Session
from lmprog.optimizers.optimizer import installed

Kind = Literal["key", "name", "field", "function", "value", "model", "type", "file"]
MOST_FILES = 100
_NESTED = (Record, MapOf)


@dataclass(frozen=True)
class Item:
    """A completion that the editor offers: its label, its kind, a short detail, and a description (`about`).

    `insert` replaces the typed part of the word, with what follows it, as `: ` after a key; empty: the label does.
    """

    label: str
    kind: Kind
    detail: str = ""
    about: str = ""
    insert: str = ""
    """The text that is inserted where it is another than the label."""


@dataclass(frozen=True)
class Completions:
    """The completions at a position (`items`), and how many characters before the cursor they replace (`typed`)."""

    items: list[Item]
    typed: int


def completions(session: Session, path: Path, line: int, column: int) -> Completions:
    """Return the completions at a line and column (from 1, in characters) of a file, by the last check that could read
    it and its text in the editor, else on disk; a line that the text does not have counts as empty. They are empty in
    a comment and in a string of an expression, and in expressions where no check could read the file yet."""
    text = session.text(path)
    cursor = cursor_at(text, line, column)
    if cursor is None:
        return Completions([], 0)
    draft = session.draft(path)
    expression = cursor.hole if cursor.hole is not None else cursor.expression
    if expression is not None:
        if draft is None or in_string(expression):
            return Completions([], 0)
        return _in_expression(draft, cursor, expression)
    if cursor.value:
        word_typed = cursor.typed.rpartition("\n")[2].lstrip()
        return Completions(list(_values(session, path, draft, cursor)), len(word_typed))
    return Completions([*_keys(draft, cursor), *_items(session, path, draft, cursor)], len(cursor.typed))


def _in_expression(draft: Draft, cursor: Cursor, expression: str) -> Completions:
    """Return the completions within an expression or template: roots, fields, functions, and filters behind a bar;
    `expression` is its text before the cursor."""
    dotted = word(expression)
    names = [part.strip() for part in dotted.split(".")]
    spot = cursor.spot
    if cursor.hole is not None:
        known = layout_names(draft, cursor.owner[1] if len(cursor.owner) == 2 else "", spot.at[-1])
        behind_bar = expression[: len(expression) - len(dotted)].rstrip().endswith("|")
        if behind_bar:
            return Completions([Item(name, "function", "filter") for name in FILTER_SIGNATURES], len(names[-1]))
    else:
        known = roots(draft, spot.at, cursor.level, cursor.owner)
    items = [_typed(name, kind) for name, kind in fields(known, names[:-1]).items()]
    if len(names) == 1 and cursor.hole is None:
        items += [Item(name, "function", about=one.about, insert=f"{name}(") for name, one in FUNCTIONS.items()]
    return Completions(items, len(names[-1]))


def _typed(name: str, kind: Type) -> Item:
    return Item(name, "field", str(kind))


def _keys(draft: Draft | None, cursor: Cursor) -> Iterator[Item]:
    """Yield the keys of the mapping at a cursor that it does not have yet."""
    spot = cursor.spot
    shape = spot.chosen(MappingNode)
    if isinstance(shape, Record):
        shape = shape.having(shape.others.names()) if shape.others is not None else shape
        for key, inner in shape.keys.items():
            if key not in cursor.beside and not _excluded(shape, key, cursor.beside):
                yield Item(
                    key,
                    "key",
                    inner.default and f"default: {inner.default}",
                    about_of(inner),
                    _opened(cursor, key, inner),
                )
        return
    for name, detail in _key_names(draft, cursor) if draft is not None else ():
        if name not in cursor.beside:
            yield Item(name, "name", detail, insert=f"{name}: ")


def _excluded(shape: Record, key: str, beside: Iterable[str]) -> bool:
    """Return whether a key cannot stand beside the keys `beside` of a mapping, since the shape allows only one of several."""
    chosen = [one for one in shape.choices if one in beside]
    if not chosen:
        return False
    return key in shape.choices or (key in shape.only and chosen[0] not in shape.only[key])


def _opened(cursor: Cursor, key: str, shape: Shape) -> str:
    """Return the text to insert for a key: with a colon, and where its value is a mapping or a list of mappings the line
    break, indentation and dash that begin it."""
    while isinstance(shape, Lazy):
        shape = shape.shape()
    if cursor.flow:
        return f"{key}: "
    inner = "\n" + " " * (cursor.indent + 2)
    if isinstance(shape, _NESTED):
        return f"{key}:{inner}"
    return f"{key}:{inner}- " if isinstance(shape, ListOf) and isinstance(shape.item, _NESTED) else f"{key}: "


def _key_names(draft: Draft, cursor: Cursor) -> Iterator[tuple[str, str]]:
    """Yield the names of the program that can be keys at a cursor, such as the inputs of a module below `with`, each with
    its type, model or kind."""
    at, owner = cursor.spot.at, cursor.owner
    if at in KEYS:
        yield from names_in(draft, KEYS[at], cursor)
    elif at == ("optimize", "stages", "*"):
        yield from ((name, "optimizer") for name in installed())
    elif at[:2] == ("optimize", "stages") and isinstance(cursor.spot.chosen(MappingNode), MapOf):
        yield from names_in(draft, "modules", cursor)
    elif at == ("metrics", "*", "lms") and owner[1] in draft.metrics:
        judge = draft.metrics[owner[1]].judge
        yield from ((id, lm.model) for id, lm in judge.lms.items()) if judge is not None else ()
    elif at[:2] == ("steps", "*") and len(at) == 3:
        yield from _of_step(draft, owner[1], at[2])
    elif at[:2] == ("modules", "*") and "demos" in at and owner[1] in draft.modules:
        module = draft.modules[owner[1]]
        yield from ((name, str(one.type)) for name, one in {**module.inputs, **module.outputs}.items())
    elif at == ("metrics", "*", "with") and owner[1] in draft.metrics:
        yield from _of_metric(draft.metrics[owner[1]], draft.options.imports)
    elif at == ("tests", "*", "inputs"):
        yield from ((name, str(one.type)) for name, one in draft.inputs.items())
    elif at == ("tests", "*", "expect"):
        yield from ((name, str(kind)) for name, kind in draft.output_types.items())


def _of_metric(metric: Metric, imports: bool) -> Iterator[tuple[str, str]]:
    """Yield the names and types of a metric's arguments: the inputs of its judge, or the parameters of its function, where
    it may be imported (`imports`) and can be."""
    parameters: Mapping[str, Field] = {}
    if metric.judge is not None:
        parameters = metric.judge.inputs
    elif isinstance(metric.computed_by, PythonReference):
        with suppress(ImportFailed):
            known = signature(metric.computed_by, imports)
            parameters = known.parameters if known is not None else {}
    yield from ((name, str(one.type)) for name, one in parameters.items())


def _of_step(draft: Draft, path: str, key: str) -> Iterator[tuple[str, str]]:
    """Yield the names, with their types or models, that can be keys below `key` (`with`, `else`, `next`, ...) of a step."""
    step = steps_by_path(draft).get(path)
    if step is None:
        return
    action = step.action
    if key in ("else", "on_error"):
        yield from ((name, str(kind)) for name, kind in step.outputs.items())
    elif key == "next" and isinstance(action, Repeat):
        yield from ((name, str(one.type)) for name, one in action.state.items())
    elif key == "lms" and isinstance(action, ProgramCall):
        yield from ((id, lm.model) for id, lm in action.plan.lms.items())
    elif key == "with":
        parameters: Mapping[str, object] = {}
        if isinstance(action, ModuleCall) and action.module in draft.modules:
            parameters = {name: one.type for name, one in draft.modules[action.module].inputs.items()}
        elif isinstance(action, ToolCall) and action.tool in draft.tools:
            parameters = {name: one.type for name, one in draft.tools[action.tool].parameters.items()}
        elif isinstance(action, ProgramCall):
            parameters = {name: one.type for name, one in action.plan.inputs.items()}
        yield from ((name, str(kind)) for name, kind in parameters.items())


def names_in(draft: Draft, section: str, cursor: Cursor) -> Iterator[tuple[str, str]]:
    """Yield the names of a section (`modules`, say) of the program, whatever is typed so far, each with its type or
    kind, an LM with its model.

    By the place of `cursor`, where one is typed, `steps` are the other steps that can be read there, and `tools` of a
    module include the MCP servers, each for all its tools.
    """
    if section == "steps":
        level = cursor.level
        yield from ((id, "step") for id, step in visible_steps(draft, level).items() if step.path != cursor.owner[1])
    elif section == "outputs":
        yield from ((name, str(kind)) for name, kind in draft.output_types.items())
    elif section == "lms":
        yield from ((id, lm.model) for id, lm in draft.lms.items())
    else:
        yield from ((id, section.removesuffix("s")) for id in getattr(draft, section))
        if section == "tools" and cursor.spot.at[:1] == ("modules",):
            yield from ((id, "all tools of an MCP server") for id in draft.servers)


def _items(session: Session, path: Path, draft: Draft | None, cursor: Cursor) -> Iterator[Item]:
    """Yield the completions of an item of a list, where the cursor is behind its dash; nothing elsewhere."""
    if not cursor.keys or not isinstance(cursor.keys[-1], int):
        return
    yield from _values(session, path, draft, cursor)


def _values(session: Session, path: Path, draft: Draft | None, cursor: Cursor) -> Iterator[Item]:
    """Yield the values that the language has at a cursor: names of the program, words, models, programs or types."""
    spot = cursor.spot
    shape = spot.chosen(Scalar)
    if spot.at in NAMED and draft is not None:
        yield from (Item(name, "name", detail) for name, detail in names_in(draft, NAMED[spot.at], cursor))
    elif spot.at == ("optimize", "stages", "*"):
        yield from (Item(name, "name", "optimizer") for name in installed())
    elif isinstance(shape, Choice):
        yield from (Item(name, "value") for name in shape.words)
    elif isinstance(shape, Boolean):
        yield from (Item(name, "value") for name in ("true", "false"))
    elif spot.at == ("lms", "*", "model"):
        yield from (Item(name, "model") for name in _models(cursor.typed))
    elif spot.at in PROGRAMS:
        for file, _ in zip(yaml_files(path.parent), range(MOST_FILES), strict=False):
            if file != path and session.is_program(file):
                yield Item(f"./{file.relative_to(path.parent)}", "file")
    elif is_type(spot.shape):
        yield from (Item(name, "type") for name in (*PRIMITIVES, "list[str]"))
    elif isinstance(spot.chosen(Sequence), ListOf) and isinstance(item := spot.into(0).chosen(Scalar), Choice):
        yield from (Item(f"[{name}]", "value") for name in item.words)


def _models(typed: str) -> Iterator[str]:
    """Yield names of models: behind the prefix of a known provider all of its models, else the prefixes."""
    provider = typed.partition("/")[0]
    if "/" in typed and provider in PROVIDERS:
        yield from (f"{provider}/{name}" for name in sorted(names_of(provider)))
    else:
        yield "embedded/smollm2-135m"
        yield from (f"{prefix}/" for prefix in prefixes() if prefix != "embedded")


def about_of(shape: Shape) -> str:
    """Return the description of a key by its shape, as the language has it; empty where there is none."""
    while not shape.about and isinstance(shape, Lazy):
        shape = shape.shape()
    return shape.about
