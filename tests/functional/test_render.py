"""`lmprog render`: the whole request, and steps by their id wherever they stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog.runtime.rendering import has_step

INNER = """
lmprog: 1
name: inner
lms: {writer: {model: anthropic/claude-sonnet-4-5, params: {max_tokens: 64, temperature: 0.5}}}
modules:
  fix: {lm: writer, inputs: {text: str}, outputs: {fixed: str}, instructions: Correct the text.}
inputs: {text: str}
steps: {mend: {module: fix, with: {text: "${{ inputs.text }}"}}}
outputs: {text: "${{ steps.mend.fixed }}"}
"""
OUTER = """
lmprog: 1
name: outer
lms:
  writer: {model: anthropic/claude-sonnet-4-5, params: {max_tokens: 64, temperature: 0.5}}
  sorter: {model: openai/gpt-4.1-mini, params: {max_tokens: 20}}
inputs: {text: str}
tools: {find: {python: "./tools.py:find", result: found, effects: read}}
modules:
  sort: {lm: sorter, inputs: {text: str}, outputs: {kind: {enum: [a, b]}, why: str}, format: json,
    instructions: Say of what kind the text is.}
  ask: {lm: sorter, inputs: {text: str}, outputs: {answer: str}, format: json, tools: [find], max_turns: 3}
  draft: {lm: writer, inputs: {text: str, tries: int}, outputs: {anew: str}, instructions: Write it anew.}
steps:
  sorted: {module: sort, with: {text: "${{ inputs.text }}"}}
  unread: {tool: find, with: {query: "${{ inputs.text }}"}}
  each: {module: ask, foreach: "${{ ['x', 'y'] }}", with: {text: "${{ item }}"}}
  loop:
    repeat: 2
    state: {draft: {type: str, start: ""}}
    steps:
      write: {module: draft, with: {text: "${{ inputs.text }}", tries: "${{ loop.index0 }}"}}
    next: {draft: {set: "${{ steps.write.anew }}"}}
  call: {program: inner.yaml, with: {text: "${{ steps.loop.draft }}"}}
outputs: {text: "${{ steps.call.text }}", kind: "${{ steps.sorted.kind }}", found: "${{ steps.unread.found }}",
  answers: "${{ steps.each.answer }}"}
data: {dev: dev.jsonl}
"""


@pytest.fixture
def spec(write) -> Path:
    write("def find(query: str) -> str:\n    '''Finds a page.'''\n    return query\n", "tools.py")
    write('{"text": "Where is my parcel?"}\n{"text": "Thanks"}\n', "dev.jsonl")
    write(INNER, "inner.yaml")
    return write(OUTER, "outer.yaml")


@pytest.fixture
def rendered(spec: Path, cli):
    def rendered(*options: Any) -> list[dict[str, Any]]:
        status, out, err = cli("render", spec, "--format", "json", *options)
        assert status == 0, err
        return json.loads(out)

    return rendered


@pytest.mark.parametrize(
    ("step", "paths"),
    [
        ("sorted", ["sorted"]),
        ("each", ["each[0]", "each[1]"]),
        ("each[1]", ["each[1]"]),
        ("write", ["loop[0].write", "loop[1].write"]),
        ("loop", ["loop[0].write", "loop[1].write"]),
        ("loop.write", ["loop[0].write", "loop[1].write"]),
        ("loop[1]", ["loop[1].write"]),
        ("loop[1].write", ["loop[1].write"]),
        ("call", ["call/mend"]),
        ("mend", ["call/mend"]),
        ("call/mend", ["call/mend"]),
    ],
)
def test_a_step_is_named_by_its_id_or_path(rendered, step: str, paths: list[str]) -> None:
    assert [made["step"] for made in rendered("--step", step)] == paths


def test_a_step_is_known_by_each_name_that_shows_it(spec: Path) -> None:
    plan = lmprog.load(spec).plan
    known = ("call/mend", "mend", "loop.write", "loop[1].write", "write", "call")
    assert [step for step in (*known, "call/write", "ritten") if has_step(plan, step)] == [*known]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            "unread",
            "the step 'unread' of outer asks no LM for row 0; those that do are sorted, each, loop.write, call/mend",
        ),
        ("wrote", "outer has no step 'wrote' that calls a module; there are sorted, each, loop.write, call/mend"),
        ("ritten", "outer has no step 'ritten' that calls a module"),
    ],
)
def test_a_step_without_a_request_is_said(spec: Path, cli, step: str, said: str) -> None:
    status, out, err = cli("render", spec, "--step", step)
    assert (status, out) == (2, "") and said in err


def test_the_whole_request_is_shown(rendered) -> None:
    by_step = {made["step"]: made for made in rendered()}
    assert [*by_step] == ["sorted", "each[0]", "each[1]", "loop[0].write", "loop[1].write", "call/mend"]
    sorting = by_step["sorted"]
    schema = sorting["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["kind"]["enum"] == ["a", "b"] and "schema" not in sorting
    assert sorting["params"] == {"max_tokens": 20} and isinstance(sorting["seed"], int)
    assert sorting["tokens"]["reply"] == 20 and sorting["tokens"]["prompt"] > 40
    assert (sorting["lm"], sorting["model"], sorting["format"]) == ("sorter", "openai/gpt-4.1-mini", "json")
    # An agent's reply may be a call of a tool, so that no schema holds it before the last turn.
    assert "response_format" not in by_step["each[0]"] and by_step["each[0]"]["tools"][0]["name"] == "find"
    assert by_step["call/mend"]["module"] == "fix"


def test_the_part_that_is_the_same_for_every_row_ends_where_it_does(rendered) -> None:
    """Compare the part that is said to be the same for every row, and the text after it, with those of another row."""
    for here, there in zip(rendered("--row", 0), rendered("--row", 1), strict=True):
        same = here["same_for_every_row"]
        whole, characters = same["messages"], same["characters"]
        assert here["messages"][:whole] == there["messages"][:whole]
        assert (whole, characters) > (0, 0)
        texts = [made["messages"][whole]["content"] for made in (here, there)]
        assert texts[0][:characters] == texts[1][:characters]
        assert same["marked"] == here["model"].startswith("anthropic/")


def test_a_person_reads_where_the_mark_stands(spec: Path, cli) -> None:
    status, out, _ = cli("render", spec, "--step", "write")
    assert status == 0 and "=== loop[0].write (module draft, LM writer: anthropic/claude-sonnet-4-5)" in out
    assert "max_tokens: 64\ntemperature: 0.5\n" in out and "seed" not in out  # Anthropic takes none
    assert 'the first message and 6 characters of message 2 (user), to "<text>"; the cache mark' in out
    assert "(at 4 characters a token); a reply of at most 64; " in out
    status, out, _ = cli("render", spec, "--step", "sorted")
    assert '"kind"' in out and "structured output" in out and "sent without a mark" in out


def test_what_is_shown_is_what_is_sent(write, provider, cli) -> None:
    """The body that a server gets has the messages, schema, parameters and seed of `render --format json`."""
    write('{"text": "a"}\n', "dev.jsonl")
    spec = write(f"""
        lmprog: 1
        lms: {{m: {{model: openai/local, api_base: "{provider.url}", params: {{max_tokens: 9, temperature: 0.25}}}}}}
        modules:
          sort: {{lm: m, inputs: {{text: str}}, outputs: {{kind: {{enum: [a, b]}}, sure: bool}}, format: json}}
        data: {{dev: dev.jsonl}}
        """)
    status, out, err = cli("render", spec, "--format", "json")
    assert status == 0, err
    (shown,) = json.loads(out)
    provider.replies = ['{"kind": "a", "sure": true}']
    lmprog.load(spec)(text="a")
    (body,) = provider.requests
    shown_body = {name: shown[name] for name in ("messages", "response_format", "seed")} | shown["params"]
    assert body == {"model": "local", **shown_body}
