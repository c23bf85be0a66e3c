"""What a run is made from has a key for whatever changes an answer or a score, and none for what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog.state import identity

SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}", kind: "${{ steps.kind.kind }}"}
    vars: {labels: {file: labels.txt}}
    lms:
      lm: {model: openai/x, api_base: "http://127.0.0.1:1/v1", api_key: k, params: {max_tokens: 8}, limits: {tries: 2}}
    tools:
      look: {python: "./tools.py:look", result: found}
      find: {search: {corpus: passages.jsonl, text: text, key: id}, result: passages}
    modules:
      sort: {lm: lm, inputs: {text: str, about: str}, outputs: {label: {enum: "${{ vars.labels }}"}}, instructions: Sort.}
    steps:
      look: {tool: look, with: {text: "${{ inputs.text }}"}}
      find: {tool: find, with: {query: "${{ inputs.text }}"}}
      sort: {module: sort, with: {text: "${{ inputs.text }}", about: "${{ steps.look.found }}"}}
      kind: {program: ./kind.yaml, with: {text: "${{ inputs.text }}"}}
    metrics:
      exact: {python: "./metrics.py:exact", with: {label: "${{ outputs.label }}"}}
      judged: {program: ./judge.yaml, with: {text: "${{ outputs.label }}"}}
      both: {value: "(metrics.exact + metrics.judged) / 2"}
      apart: {python: "./apart.py:one", with: {label: "${{ outputs.label }}"}}
"""
INNER = """
    lmprog: 1
    inputs: {text: str}
    outputs: {NAME: "${{ steps.ask.NAME }}"}
    lms: {inner: {model: openai/y, api_key: k}}
    modules: {ask: {lm: inner, inputs: {text: str}, outputs: {NAME: TYPE}, instructions: Ask.}}
    steps: {ask: {module: ask, with: {text: "${{ inputs.text }}"}}}
"""
FILES = {
    "labels.txt": "billing\nrefund\n",
    "passages.jsonl": '{"id": 1, "text": "parcel"}\n',
    "tools.py": "def look(text: str) -> str:\n    import lookup\n    return lookup.word\n",
    "lookup.py": "from words.common import word\n",
    "words/__init__.py": "",
    "words/common.py": "word = 'a'\n",
    "metrics.py": "from rules import right\ndef exact(label: str) -> bool:\n    return right(label)\n",
    "rules.py": "def right(label):\n    return True\n",
    "apart.py": "def one(label: str) -> float:\n    return 1.0\n",
    "unused.py": "",
    "kind.yaml": INNER.replace("NAME", "kind").replace("TYPE", "str"),
    "judge.yaml": INNER.replace("NAME", "score").replace("TYPE", "float"),
}


@pytest.fixture
def source_digests(write: Callable[..., Path]) -> Callable[..., dict[str, str]]:
    for name, text in FILES.items():
        write(text, name)
    spec = write(SPEC)

    def made(**overrides: Any) -> dict[str, str]:
        plan = lmprog.load(spec, overrides={key.replace("__", "."): value for key, value in overrides.items()}).plan
        return {**identity.version(), **identity.of_program(plan), **identity.of_metric(plan, "both")}

    return made


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("labels.txt", "vars.labels"),
        ("passages.jsonl", "tools.find.search.corpus: passages.jsonl"),
        ("tools.py", "tools.look.python: tools.py"),
        ("lookup.py", "tools.look.python: lookup.py"),
        ("words/common.py", "tools.look.python: words/common.py"),
        ("metrics.py", "metrics.exact.python: metrics.py"),
        ("rules.py", "metrics.exact.python: rules.py"),
        ("kind.yaml", "kind.yaml: modules.ask.instructions"),
        ("judge.yaml", "metrics.judged: judge.yaml: modules.ask.instructions"),
    ],
)
def test_a_changed_file_is_named_by_the_key_that_names_it(source_digests, write, name: str, key: str) -> None:
    before = source_digests()
    changed = FILES[name].replace("Ask.", "Ask again.") + ("" if name.endswith(".yaml") else "\n# more\n")
    write(changed if name != "passages.jsonl" else FILES[name] * 2, name)
    assert f"`{key}` is changed" in identity.changes(before, source_digests())


@pytest.mark.parametrize(
    ("override", "value", "key"),
    [
        ("modules__sort__instructions", "Guess.", "modules.sort.instructions"),
        ("lms__lm__model", "openai/z", "lms.lm.model"),
        ("lms__lm__params__max_tokens", 9, "lms.lm.params"),
        ("steps__look__with__text", "fixed", "steps.look.with"),
        ("metrics__exact__range", [0.0, 2.0], "metrics.exact.range"),
        ("metrics__both__value", "metrics.exact", "metrics.both.value"),
    ],
)
def test_a_changed_key_is_named(source_digests, override: str, value: Any, key: str) -> None:
    assert f"`{key}` is changed" in identity.changes(source_digests(), source_digests(**{override: value}))


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("lms__lm__limits__concurrency", 3),
        ("lms__lm__api_base", "http://127.0.0.1:2/v1"),
        ("lms__lm__api_key", "other"),
        ("lms__lm__price", {"input": 1, "output": 2}),
        ("lms__lm__cache", True),
        ("metrics__apart__range", [0.0, 5.0]),
        ("description", "Sorts."),
    ],
)
def test_what_changes_no_answer_has_no_key(source_digests, write, override: str, value: Any) -> None:
    before = source_digests()
    write("# other words\n" + FILES["apart.py"], "apart.py")
    write("x = 1\n", "unused.py")
    assert identity.changes(before, source_digests(**{override: value})) == []


def test_the_version_is_part_of_it(source_digests, monkeypatch: pytest.MonkeyPatch) -> None:
    before = source_digests()
    monkeypatch.setattr(identity, "__version__", "9.9.9")
    assert identity.changes(before, source_digests()) == ["lmprog is 9.9.9 and was 0.1.0"]


def test_rows_count_with_their_order_and_values() -> None:
    rows = [{"a": 1, "b": "x\ud800"}, {"a": 2, "b": "y"}]
    same = [dict(reversed(row.items())) for row in rows]
    assert identity.of_rows(rows) == identity.of_rows(same)
    others = ([*reversed(rows)], rows[:1], [rows[0], {"a": 2, "b": "z"}], [rows[0], {"a": 2.5, "b": "y"}], [*rows, {}])
    assert len({identity.of_rows(rows), *map(identity.of_rows, others)}) == 6


def test_a_metric_is_made_from_those_that_its_arguments_read_too(write) -> None:
    for name, text in FILES.items():
        write(text, name)
    rated = '      rated: {python: "./apart.py:one", with: {label: "${{ str(metrics.exact) }}"}}\n'
    plan = lmprog.load(write(SPEC + rated)).plan
    made_from = identity.of_metric(plan, "rated")
    assert {"metrics.rated.python", "metrics.exact.python", "metrics.exact.python: rules.py"} <= made_from.keys()
    assert not any(key.startswith(("metrics.judged", "metrics.both", "metrics.apart.")) for key in made_from)
    assert plan.metrics["rated"].metrics == {"exact"} and plan.metrics["both"].metrics == {"exact", "judged"}
    assert [plan.metrics[id].kind for id in ("rated", "judged", "both")] == ["python", "program", "value"]
