"""Completions: at every word of the programs, what stands there is among what is offered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lmprog.compiler.shape import Record
from lmprog.compiler.yaml.source import Mapping, Node, Sequence
from lmprog.editing.completion import completions
from lmprog.editing.grammar import Spot
from lmprog.editing.names import inner_place
from lmprog.editing.session import Session
from tests.unit.lmprog.editing.editor_programs import PROGRAMS, ROOT, at, opened

IDS = [str(path.relative_to(ROOT)) for path in PROGRAMS]


def labels(session: Session, path: Path, line: int, column: int) -> list[str]:
    return [item.label for item in completions(session, path, line, column).items]


@pytest.mark.parametrize("path", PROGRAMS, ids=IDS)
def test_every_name_that_a_program_reads_is_offered(path: Path) -> None:
    session = opened(path)
    for mention in session.mentions(path):
        if not mention.defines:
            offered = labels(session, path, mention.place.line, mention.place.column)
            # A tool of an MCP server is offered with the server's name, which is the one that is mentioned.
            assert any(label == mention.name or label.startswith(f"{mention.name}.") for label in offered), (
                mention.place
            )


def keys(node: Node, spot: Spot) -> Iterator[tuple[int, int, str]]:
    """Yield the places of the keys that the language has."""
    if isinstance(node, Mapping):
        for key, value in node.entries.items():
            if isinstance(spot.chosen(Mapping), Record) and spot.into(key).at[:1] != ("inputs",):
                place = inner_place(node.keys[key])
                yield place.line, place.column, key
            yield from keys(value, spot.into(key))
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from keys(item, spot.into(index))


@pytest.mark.parametrize("path", PROGRAMS, ids=IDS)
def test_every_key_of_a_program_is_offered_while_it_is_typed(path: Path) -> None:
    text = path.read_text()
    session = opened(path)
    root = session.parsed(path)
    assert root is not None
    lines = text.split("\n")
    for line, column, key in keys(root, Spot()):
        cut = [*lines]
        cut[line - 1] = lines[line - 1][: column - 1]  # the rest of the line is not yet typed
        session.texts[path] = "\n".join(cut)
        offered = labels(session, path, line, column)
        assert key in offered or not offered_here(session, path, line, column, key), (line, column, offered)


def offered_here(session: Session, path: Path, line: int, column: int, key: str) -> bool:
    """Return whether the key has a place here: a field of an object type may be called as a key of the language."""
    from lmprog.editing.cursor import cursor_at

    cursor = cursor_at(session.text(path), line, column)
    assert cursor is not None
    shape = cursor.spot.chosen(Mapping)
    return isinstance(shape, Record) and key in shape.keys


PROGRAM = """\
lmprog: 1
inputs: {text: str, words: "list[str]"}
outputs: {label: "${{ steps.ask.label }}", parts: "${{ steps.each.found }}"}
vars: {mood: kind, rules: {first: a}}
lms:
  small: {model: openai/gpt-4.1-mini}
tools:
  find: {search: {corpus: rows.jsonl, text: text, key: text}, result: found}
modules:
  ask:
    lm: small
    inputs: {text: str, about: {name: str, age: int}}
    outputs: {reasoning: str, label: {enum: [good, bad]}}
    prompt: {user: "Be {{ vars.mood }}: {{ text }}"}
steps:
  each: {tool: find, foreach: "${{ inputs.words }}", with: {query: "${{ item }}"}}
  ask: {module: ask, with: {text: "${{ inputs.text }}", about: {name: a, age: 1}}}
  turn:
    repeat: 3
    state: {seen: {type: str, start: a}}
    steps:
      more: {tool: find, with: {query: "${{ state.seen }}"}}
    next:
      seen: {set: "${{ inputs.text }}"}
data: {dev: rows.jsonl}
metrics: {right: {value: "1.0 if outputs.label == row.label else 0.0"}}
optimize:
  metric: right
  stages: [bootstrap]
"""
MISSING = "¬"


@pytest.mark.parametrize(
    ("before", "typed", "offered", "not_offered"),
    [
        ("", "¦\n", ["tests", "export"], ["inputs", "metrics"]),
        ("", "te¦", ["tests"], ["optimize"]),
        ('label: "', "${{ ¦", ["inputs", "steps", "vars", "join", "len"], ["row", "state", "env", "item"]),
        ('label: "', "${{ steps.¦", ["ask", "each", "turn"], ["more"]),
        ('label: "', "${{ steps.ask.¦", ["reasoning", "label"], ["text"]),
        ('label: "', "${{ steps.ask.la¦", ["label"], []),
        ('label: "', "${{ 'steps.¦", [], ["ask"]),
        ('next:\n      seen: {set: "', "${{ steps.¦", ["more", "ask"], []),
        ('next:\n      seen: {set: "', "${{ state.¦", ["seen"], []),
        ('with: {query: "', "${{ loop.¦", ["first", "last", "index0"], []),
        ('value: "1.0 if outputs.label == ', "row.¦", ["label", "text"], []),
        ('value: "1.0 if ', "metrics.¦", ["right"], []),
        ("    lm: ", "¦", ["small"], []),
        ("module: ", "¦", ["ask"], ["find"]),
        ("tool: ", "¦", ["find"], ["ask"]),
        ("  metric: ", "¦", ["right"], []),
        ("stages: ", "[¦", ["bootstrap", "grpo", "prompt_search"], []),
        ("model: ", "openai/gpt-4.1¦", ["openai/gpt-4.1-mini", "openai/gpt-4.1"], []),
        ("model: ", "¦", ["embedded/smollm2-135m", "hf/", "anthropic/"], []),
        ("text: ", "¦", ["str", "list[str]"], []),
        ('prompt: {user: "Be ', "{{ ¦", ["text", "about", "vars", "instructions", "demos"], ["reasoning", "steps"]),
        ('prompt: {user: "Be ', "{{ about.¦", ["name", "age"], []),
        ('prompt: {user: "Be ', "{{ vars.rules.¦", ["first"], []),
        ('prompt: {user: "Be ', "{{ text | ¦", ["upper", "tojson", "join"], ["text"]),
        ('prompt: {user: "', "Be ¦", [], ["text"]),
        ("  ask: {module: ask, ", "¦", ["when", "with", "retry", "needs"], ["module", "tool", "state"]),
        ("  ask: {module: ask, with: {", "¦", ["text", "about"], ["label"]),
        ("  metric: right\n", "  tune: {¦", ["ask"], ["find"]),
        ("  metric: right\n", "  tune: {ask: [¦", ["instructions", "demos", "weights"], []),
        ("  metric: right\n", "  # steps.¦", [], ["ask", "metric"]),
        ("  metric: right\n", "  accept: ¦", ["composition", "stage", "point"], []),
        ("dev: rows.jsonl}\n", "tests: [{expect: {¦", ["label", "parts"], ["text"]),
        ("dev: rows.jsonl}\n", "tests: [{inputs: {¦", ["text", "words"], ["label"]),
    ],
)
def test_what_is_offered(
    write: Callable[..., Path], before: str, typed: str, offered: list[str], not_offered: list[str]
) -> None:
    write('{"text": "a", "label": "good"}\n', "rows.jsonl")
    path = write(PROGRAM).resolve()
    session = opened(path)
    start = PROGRAM.index(before) + len(before)
    plain, offset = at(typed)
    # The rest of the line is not there yet: the text is no YAML while it is typed.
    rest = PROGRAM[start:].partition("\n")[2] if not before.endswith("\n") else PROGRAM[start:]
    session.texts[path] = PROGRAM[:start] + plain + "\n" + rest
    found = labels(session, path, *session.text(path).place(start + offset))
    assert set(offered) <= set(found), found
    assert not set(not_offered) & set(found)


def test_a_completion_replaces_the_word_that_is_typed(write: Callable[..., Path]) -> None:
    path = write(PROGRAM).resolve()
    session = opened(path)
    text, offset = at(PROGRAM.replace("${{ steps.ask.label }}", "${{ len(steps.as¦ }}"))
    session.texts[path] = text
    found = completions(session, path, *session.text(path).place(offset))
    assert found.typed == 2
    assert (
        next(item for item in found.items if item.label == "ask").detail == "{reasoning: str, label: enum[good, bad]}"
    )
    text, offset = at("lmprog: 1\nmod¦")
    session.texts[path] = text
    found = completions(session, path, *session.text(path).place(offset))
    (modules,) = (item for item in found.items if item.label == "modules")
    assert (found.typed, modules.insert) == (3, "modules:\n  ") and "prompts" in modules.about
