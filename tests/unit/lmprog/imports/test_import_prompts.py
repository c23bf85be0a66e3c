"""A converted prompt sends what the original sends, and where it cannot, the first difference is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import DictLoader, Environment, TemplateError

from lmprog.compiler.templates.compiled import ENVIRONMENT
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, JSON, STR, ListOf
from lmprog.errors import UsageError
from lmprog.imports import jinja_text, promptflow, prompty
from lmprog.imports.finished import finished
from lmprog.imports.original import NotRendered, Original, rendered
from lmprog.imports.shapes import type_of, uses
from lmprog.imports.values import fitted

PIECES = [
    "{% for i in [1, 2] %}", "{%- for i in [1, 2] -%}", "{%+ for i in [1] +%}", "{% endfor %}", "{%- endfor -%}", "{% if a %}",
    "{%- if a %}", "{% else %}", "{% endif %}", "{% endif -%}", "{{ a }}", "{{- a -}}", "{{ '%}' }}", "{# c #}", "{#- c -#}",
    "{#+ c +#}", "{% raw %}", "{{ b }}", "{% endraw %}", "{%- endraw -%}", "{% set a = '#}' %}",
    "\n", "\n\n", " ", "\t", "x", "{", "%",
]  # fmt: skip
VALUES = {"a": "A", "b": "B"}


@pytest.mark.slow
@settings(max_examples=6 * settings().max_examples, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.booleans())
@example(
    "x\n  {% for i in [1, 2] %}\n  - {{ i }}\n  {# c #}\n  {% endfor %}\n{% raw %}\n {{a}}\n  {% endraw %}\ny", False
)
@example("  {% if a %}\n x\n  {% endif %}\n\ny", True)
def test_lmprog_renders_the_blanks_of_the_original(text: str, trims: bool) -> None:
    theirs = Environment(trim_blocks=trims)
    try:
        wanted = theirs.from_string(text).render(VALUES)
    except TemplateError:
        return
    written = jinja_text.with_blanks_kept(text, trims=trims)
    assert ENVIRONMENT.from_string(written).render(VALUES) == wanted
    assert re.sub(r"\+", "", written) == re.sub(r"\+", "", text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("{{ a }} {{ b.a }} {{ a.b }} a 'a'", "{{ z }} {{ b.a }} {{ z.b }} a 'a'"),
        ("{{ b | a }}{{ b is a }}{{ b('a', a=1) }}{{ b(a == 1) }}", "{{ b | a }}{{ b is a }}{{ b('a', a=1) }}{{ b(z == 1) }}"),
        ("{% for x in a %}{{ x ~ 'a' }}{% endfor %}", "{% for x in z %}{{ x ~ 'a' }}{% endfor %}"),
        ("{% raw %}{{ a }}{% endraw %}{# a #}", "{% raw %}{{ a }}{% endraw %}{# a #}"),
        ("{%- if a -%}  {{- a[0] -}}  {%- endif -%}", "{%- if z -%}  {{- z[0] -}}  {%- endif -%}"),
    ],
)  # fmt: skip
def test_a_variable_is_renamed_and_nothing_else(text: str, written: str) -> None:
    assert jinja_text.renamed(text, {"a": "z"}) == written


def test_types_come_from_samples_and_from_use() -> None:
    def of(text: str) -> dict[str, str]:
        return {name: str(use.type()) for name, use in uses(text).items()}

    assert of("{% for i in xs %}{{ i.name }}{% for t in i.tags %}{{ t }}{% endfor %}{% endfor %}") == {
        "xs": "list[{name: str, tags: list[str]}]"
    }
    assert of("{% set z = c.e %}{{ z.f }}{{ c['a'].b }}{{ ys | join(', ') }}{{ xs[0].q }}") == {
        "c": "{e: {f: str}, a: {b: str}}", "ys": "list[str]", "xs": "list[{q: str}]",
    }  # fmt: skip
    assert of("{{ d | tojson }}{% if n > 3 %}{% endif %}{{ t.upper() }}{{ l | default('') }}") == {
        "d": "json", "n": "int", "t": "str", "l": "str",
    }  # fmt: skip
    assert of("{% if") == {}
    sample = {"a": 1, "b": [{"x": 1}, {"x": 2.5, "y": "z"}], "c": {}, "odd key": 2}
    assert str(type_of(sample)) == "json"
    (use,) = uses("{{ s.a }}{% for r in s.b %}{{ r.x }}{{ r.y }}{% endfor %}{{ s.lacking }}").values()
    assert str(type_of(sample, use)) == "{a: int, b: list[{x: float, y: str?}], lacking: str?}"


def test_values_are_fitted_to_their_types_only_where_nothing_is_lost() -> None:
    assert [fitted(value, INT) for value in ("120", "1.5", "a", 3.0, 3.5, True)] == [120, "1.5", "a", 3, 3.5, True]
    assert [fitted(value, FLOAT) for value in ("0.5", "", 2)] == [0.5, "", 2]
    assert [fitted(value, BOOL) for value in ("True", "false", "yes", 1)] == [True, False, "yes", 1]
    assert [fitted(value, STR) for value in (2, True, ["a"])] == ["2", "True", ["a"]]
    assert fitted(["1", 2], ListOf(INT)) == [1, 2] and fitted({"a": 1}, JSON) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    ["{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
     "{{ 'x' * 999999999 }}", "{{ 9 ** 99 ** 9 }}",
             "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{% include 'a' %}", "{{ a | nosuch }}"],
)  # fmt: skip
def test_a_hostile_original_is_not_rendered(text: str) -> None:
    with pytest.raises(NotRendered):
        rendered(text, {"a": "A"}, trims=False)


def test_an_original_renders_as_its_tool_does() -> None:
    original = Original("first\n# User:\n  {{ a }}\n\n{% if no %}x{% endif %}\nassistant:\nb: user:\n")
    assert original.messages(VALUES) == [("system", "first"), ("user", "A"), ("assistant", "b: user:")]
    assert Original("system:\n{{ a }}\n", trims=True, chat=False).messages(VALUES) == [("user", "system:\nA\n")]


def made(tmp_path: Path, text: str, name: str = "card.prompty") -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the program of a prompty file, and its notes by mark; it passes check where no note says otherwise."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    done = finished(prompty.imported(path), tmp_path / f"{path.stem}.yaml")
    errors = [finding for finding in done.findings if finding.severity == "error"]
    notes: dict[str, list[str]] = {}
    for note in done.notes:
        notes.setdefault(note.mark, []).append(note.text)
    assert bool(errors) == bool(notes.get("check"))
    written = (tmp_path / f"{path.stem}.yaml").read_text()
    assert all(f"# {note.mark}: " in written for note in done.notes)
    return yaml.safe_load(written), notes


def head(front: str) -> str:
    return f"---\nname: card\nmodel: gpt-4o\n{front}\n---\n"


SAME = {
    "blocks on lines of their own": (
        "sample: {items: [{name: a, price: 1.50}, {name: b, price: 2}], flag: true}",
        "system:\n  {% if flag %}\nBe kind.\n  {% endif %}\n\nuser:\n{% for i in items %}\n- {{ i.name }}: "
        "{{ i.price }}\n{% endfor %}\n",
    ),
    "blanks at the ends of lines": ("sample: {q: why}", "system:\nA  \n\tB \nuser:\n {{ q }}  \n  \n- c \n"),
    "a value with a line break at its end": ("sample: {q: \"why\\n\"}", "user:\n{{ q }}\n"),
    "a truth value": ("sample: {flag: false}", "system:\nIs it {{ flag }}?\nuser:\n{{ not flag }} {{ flag }}"),
    "a field that the sample lacks": ("sample: {c: {a: x}}", "user:\n{{ c.a }}{{ c.b }}."),
    "names with a meaning of their own": (
        "sample: {instructions: short, output: o, demos: d}", 
        "system:\n{{ instructions }}\nuser:\n{{ output }} {{ demos }} {{ vars }}"
    ),
    "turns without variables": ("sample: {q: z}", "system:\nS\nuser:\na\nassistant:\nb\nuser:\n{{ q }}"),
    "turns of a sample": (
        "sample: {log: [{q: a, a: b}], q: z}",
        "system:\nS\n{% for m in log %}\nuser:\n{{ m.q }}\nassistant:\n{{ m.a }}\n{% endfor %}\nuser:\n{{ q }}",
    ),
    "line breaks of other kinds": ("sample: {q: z}", "user:\na\u2028b\x0cc\x85d {{ q }}"),
    "text that looks like YAML": ("sample: {q: z}", "user:\n- a: b # c\n---\nno: {{ q }}\n%x"),
    "no sample": (
        "inputs: {items: {type: array}, t: {type: string}}",
        "user:\n{% for i in items %}\n- {{ i.name }}\n{% endfor %}\n{{ t | upper }}",
    ),
    "a declared number as text": ("inputs: {n: {type: integer}}\nsample: {n: \"120\"}", "user:\n{{ n }}"),
    "a text taken apart": ("inputs: {item: {type: string}}", "user:\n{{ item.title }}"),
    "carriage returns": ("sample: {q: z}\r", "system:\r\nA\r\n\r\nuser:\r\n{{ q }}\r\nb\r\n"),
}  # fmt: skip


@pytest.mark.parametrize(("front", "body"), SAME.values(), ids=SAME)
def test_a_prompt_is_kept_to_the_letter(tmp_path: Path, front: str, body: str) -> None:
    _, notes = made(tmp_path, head(front) + body)
    assert "differs" not in notes and "check" not in notes, notes


DIFFERENT = {
    "a list printed as Python": (
        "sample: {xs: [a]}", "system:\nS\nuser:\nall of\n{{ xs }}",
        "message 2 (user) first differs in line 2, column 2: there \"'a']\" and here '\"a\"]'",
    ),
    "a system text alone": ("sample: {q: z}", "system:\n{{ q }}", "the original sends the messages system; this sends user"),
    "a role in a condition": (
        "sample: {q: z}", "system:\nS\n{% if q %}\nuser:\n{{ q }}\n{% endif %}",
        "the original sends the messages system, user; this sends user",
    ),
    "a filter that is not there": ("sample: {q: z}", "user:\n{{ q | nosuch }}", None),
}  # fmt: skip


@pytest.mark.parametrize(("front", "body", "said"), DIFFERENT.values(), ids=DIFFERENT)
def test_where_a_prompt_is_another_it_is_said(tmp_path: Path, front: str, body: str, said: str | None) -> None:
    _, notes = made(tmp_path, head(front) + body)
    if said is None:
        assert "there is no filter `nosuch`" in notes["check"][0]
    else:
        assert notes["differs"] == [f"the prompt of `card`: {said}"]
        assert "check" not in notes


def test_a_base_is_laid_under_the_file(tmp_path: Path) -> None:
    (tmp_path / "base.prompty").write_text(
        "---\ndescription: D\nmodel: {configuration: {type: openai, name: gpt-4o}, parameters: {max_tokens: 9}}\n---\n"
        "user:\n{{ q }}"
    )
    front = "---\nname: over\nbase: base.prompty\nmodel: {parameters: {temperature: 0.5}}\nsample: {q: z}\n---\n"
    program, _ = made(tmp_path, front, "over.prompty")
    assert program["lms"]["model"]["params"] == {"max_tokens": 9, "temperature": 0.5}
    assert (program["description"], program["modules"]["over"]["prompt"]) == ("D", {"user": "{{ q }}"})
    for base in ("gone.prompty", "over.prompty", "/etc/passwd"):
        path = tmp_path / "over.prompty"
        path.write_text(front.replace("base.prompty", base) + "user:\nx")
        assert ("file", f"`base: {base}`, which cannot be read") in [
            (n.section, n.text) for n in prompty.imported(path).notes
        ]


def test_a_template_that_extends_another_becomes_one(tmp_path: Path) -> None:
    below = "system:\nS\n{% block a %}none{% endblock %}\n\n{% block b %}\nB\n{% endblock b %}\nuser:\n{{ q }}"
    over = '{% extends "below.prompty" %}\n{% block a %}\n{{ q }} is asked\n{% endblock %}\n'
    (tmp_path / "below.prompty").write_text(head("") + below)
    program, notes = made(tmp_path, head("sample: {q: z}") + over, "over.prompty")
    loader = DictLoader({"below.prompty": below, "over": over})
    sent = Environment(loader=loader).get_template("over").render(q="z")
    assert program["modules"]["card"]["prompt"]["system"] == "S\n\n{{ q }} is asked\n\n\n\nB"
    assert sent == "system:\nS\n\nz is asked\n\n\n\nB\n\nuser:\nz" and set(notes) == set()
    program, notes = made(tmp_path, head("sample: {q: z}") + below, "below2.prompty")
    assert program["modules"]["card"]["instructions"] == "S\nnone\n\n\nB" and set(notes) == set()
    _, notes = made(tmp_path, head("sample: {q: z}") + over.replace("below", "/etc/passwd"), "gone.prompty")
    assert "cannot use `extends`" in notes["check"][0]


def test_values_of_files_and_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "docs.json").write_text('[{"title": "T"}]')
    (tmp_path.parent / "secret.json").write_text('{"q": "secret"}')
    body = "user:\n{% for d in docs %}\n{{ d.title }}\n{% endfor %}{{ q }}"
    front = "sample:\n  docs: ${file:docs.json}\n  q: ${env:WHO:nobody}"
    program, notes = made(tmp_path, head(front) + body)
    assert program["tests"]["the sample runs"]["inputs"] == {"docs": [{"title": "T"}], "q": "nobody"}
    assert "differs" not in notes and any("${env:WHO:nobody}" in text for text in notes["not imported"])
    (tmp_path / ".git").mkdir()
    program, notes = made(tmp_path, head("sample: ../secret.json") + "user:\n{{ q }}", "other.prompty")
    assert "secret" not in str(program.get("tests")) and any(
        "../secret.json, which cannot" in text for text in notes["not imported"]
    )


def test_an_image_goes_beside_the_text(tmp_path: Path) -> None:
    front = "inputs: [{name: q, kind: string}, {name: pic, kind: image}]"
    program, _ = made(tmp_path, head(front) + "system:\nS\nuser:\n![a pic]({{ pic }})\n{{ q }}\n")
    assert program["modules"]["card"]["prompt"]["user"] == "{{ q }}"
    assert program["modules"]["card"]["inputs"] == {"q": "str"} | {"pic": "image"}


def test_images_that_the_text_of_the_first_generation_names_go_beside_it(tmp_path: Path) -> None:
    front = (
        "---\nname: card\nmodel: {api: chat, configuration: {type: openai, name: x}}\nsample: {pic: a.png, q: z}\n---\n"
    )
    body = "system:\nS\nuser:\n{{ q }}\n![a pic]({{pic}})\n"
    program, notes = made(tmp_path, front + body)
    assert program["modules"]["card"]["inputs"] == {"pic": "image", "q": "str"} and "differs" not in notes
    assert program["tests"]["the sample runs"]["inputs"] == {"pic": "a.png", "q": "z"}
    _, notes = made(tmp_path, front + body.replace("{{pic}}", "b.png"), "fixed.prompty")
    assert any("`![...]` in the prompt: they are sent as text" in text for text in notes["not imported"])
    _, notes = made(tmp_path, head("sample: {q: z}") + body.replace("{{pic}}", "b.png"), "second.prompty")
    assert notes == {}


def test_notes_hold_no_character_that_cannot_be_printed(tmp_path: Path) -> None:
    _, notes = made(tmp_path, head('authors: ["a\\ud83d\\n\\e[31m\\u2028b"]\nsample: {q: z}') + "user:\n{{ q }}")
    assert notes["not imported"] == ['`authors`: ["a?\\n\\u001b[31m b"]']
    with pytest.raises(UsageError, match=r"card.prompty holds half of a surrogate pair"):
        made(tmp_path, head('description: "\\ud83d"\nsample: {q: z}') + "user:\n{{ q }}")


def test_what_jinja_calls_is_written_as_a_filter(tmp_path: Path) -> None:
    body = "user:\n{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{{ q | safe }}"
    body += "{% for k in d.keys() %}{{ k }}{% endfor %}"
    program, notes = made(tmp_path, head("sample: {d: {a: b}, q: <z>}") + body)
    assert "{{ q  }}" in program["modules"]["card"]["prompt"]["user"] and set(notes) <= {"not imported"}


def test_json_is_compared_with_what_jinja_escapes(tmp_path: Path) -> None:
    for front, differs in (
        ("sample: {d: {a: b}}", False),
        ("sample: {d: {a: <é>}}", True),
        ("inputs: {d: {type: object}}", True),
    ):
        _, notes = made(tmp_path, head(front) + "user:\n{{ d | tojson }}", f"{len(front)}.prompty")
        assert ("\\u003c" in str(notes.get("differs"))) is differs


def test_a_completion_prompt_is_one_text(tmp_path: Path) -> None:
    front = "---\nname: card\nmodel: {api: completion, configuration: {type: openai, name: x}}\nsample: {q: z}\n---\n"
    program, notes = made(tmp_path, front + "system:\n{{ q }}\n\n")
    assert program["modules"]["card"]["prompt"] == {"user": "system:\n{{ q }}\n\n"} and "differs" not in notes


# nodes without a step, and values of the flow that are written otherwise

LLM = """
- name: {name}
  type: llm
  source: {{type: code, path: {path}}}
  inputs: {{model: gpt-4o, {inputs}}}
  provider: OpenAI
  connection: ours
  api: {api}
"""
TIDY = (
    "from typing import List\n@tool\ndef tidy(docs: List[str], k: int, f: float = 1.0, b: bool = False) -> str:\n"
    "    return ''\n"
)


def flow(tmp_path: Path, text: str, **files: str) -> tuple[dict[str, Any], dict[str, list[str]], list[str]]:
    """Return the program of a flow, its notes by mark, and the codes of its errors."""
    (tmp_path / "trip").mkdir()
    for name, content in {
        "flow.dag.yaml": text,
        **{name.replace("__", "."): text for name, text in files.items()},
    }.items():
        (tmp_path / "trip" / name).write_text(content, encoding="utf-8")
    done = finished(promptflow.imported(tmp_path / "trip" / "flow.dag.yaml", tmp_path), tmp_path / "trip.yaml")
    notes: dict[str, list[str]] = {}
    for note in done.notes:
        notes.setdefault(note.mark, []).append(note.text)
    errors = [finding.code for finding in done.findings if finding.severity == "error"]
    assert bool(errors) == bool(notes.get("check"))
    return yaml.safe_load((tmp_path / "trip.yaml").read_text()), notes, errors


def test_what_a_node_without_a_step_gave_is_an_input(tmp_path: Path) -> None:
    nodes = """
inputs: {q: {type: string}, k: {type: int, default: "3"}}
outputs: {answer: {reference: "${say.output}"}, docs: {reference: "${search.output}"}}
nodes:
- {name: search, type: python, source: {type: package, tool: a.b.c}, inputs: {query: "${inputs.q}"}}
- {name: words, type: prompt, source: {type: code, path: words.jinja2}}
- name: tidy
  type: python
  source: {type: code, path: tidy.py}
  inputs: {docs: "${search.output}", k: "5", f: "0.5", b: "true"}
"""
    say = LLM.format(
        name="say",
        path="say.jinja2",
        inputs="q: '${inputs.q}', words: '${words.output}', tidy: '${tidy.output}'",
        api="chat",
    )
    text = "system:\nS\nuser:\n{{ q }} {{ words }} {{ tidy }}"
    words = "{% if q %}{{ q }}{% endif %}"
    program, notes, errors = flow(tmp_path, nodes + say, tidy__py=TIDY, say__jinja2=text, words__jinja2=words)
    assert errors == [] and "differs" not in notes
    assert program["inputs"] == {"q": "str", "k": {"type": "int", "default": 3}, "search": "list[str]", "words": "str"}
    assert program["outputs"] == {"answer": "${{ steps.say.output }}"}
    assert program["steps"]["tidy"]["with"] == {"docs": "${{ inputs.search }}", "k": 5, "f": 0.5, "b": True}
    said = "\n".join(notes["not imported"])
    assert "the output `docs`: ${{ steps.search.output }}, of a node that has no step here" in said
    assert "the output of the node `words`, which `say` reads: it is the input `words` until you write a step" in said


def test_a_node_that_makes_a_text_is_an_expression(tmp_path: Path) -> None:
    nodes = """
inputs: {q: {type: string}, n: {type: int}, log: {type: list}, go: {type: bool}}
outputs: {words: {reference: "${words.output}"}, tidy: {reference: "${tidy.output}"}}
nodes:
- name: words
  type: prompt
  source: {type: code, path: words.jinja2}
  inputs: {q: "${inputs.q}", n: "${inputs.n}", log: "${inputs.log}", m: 5, docs: "${search.output}"}
  activate: {when: "${inputs.go}", is: true}
- {name: search, type: python, source: {type: package, tool: a.b.c}}
- {name: tidy, type: python, source: {type: code, path: tidy.py}, inputs: {docs: "${words.output}", k: 1}}
"""
    text = '{# note #}\nSay "{{ q }}" {{ n }}\n{{m}}{{ gone }}{{docs}} {{ log }}\n'
    program, notes, errors = flow(
        tmp_path, nodes, tidy__py=TIDY.replace("docs: List[str]", "docs: str"), words__jinja2=text
    )
    assert errors == [] and "differs" not in notes
    value = '"Say \\"" + inputs.q + "\\" " + str(inputs.n) + "\\n" + "5" + "" + inputs.search + " " + json(inputs.log) + "\\n"'
    assert program["steps"]["words"] == {"value": value, "when": "inputs.go == true"}
    assert program["outputs"]["words"] == "${{ steps.words.value }}" and program["inputs"]["search"] == "str"
    assert program["steps"]["tidy"]["with"] == {"docs": "${{ default(steps.words.value, '') }}", "k": 1}
    assert any("how a list or object stands in the text of `words`" in text for text in notes["not imported"])


def test_what_a_flow_misspells_is_left_to_check(tmp_path: Path) -> None:
    head = "inputs: {instructions: {type: string}}\noutputs: {a: {reference: '${say.outputs.x}'}}\nnodes:"
    say = LLM.format(name="say", path="say.jinja2", inputs="instructions: '${inputs.instructions}'", api="chat")
    program, notes, errors = flow(
        tmp_path, head + say, say__jinja2="\ufeffsystem:\n{{ instructions }}\nuser:\n{{ lacking }}x"
    )
    assert errors == ["LMP203"] and notes["check"][0].startswith(
        "output `a`: the step `say` has no field `outputs` [LMP203]"
    )
    assert program["steps"]["say"]["with"] == {"instructions_input": "${{ inputs.instructions }}", "lacking": ""}
    assert "differs" not in notes


def test_what_may_be_skipped_has_a_value_in_its_place(tmp_path: Path) -> None:
    head = "inputs: {q: {type: string}, go: {type: bool}}\noutputs: {a: {reference: '${last.output}'}}\nnodes:"
    first = LLM.format(name="first", path="say.jinja2", inputs="q: '${inputs.q}'", api="completion")
    first += "  activate: {when: '${inputs.go}', is: 'true'}"
    last = LLM.format(name="last", path="say.jinja2", inputs="q: '${first.output}'", api="completion")
    program, notes, errors = flow(tmp_path, head + first + last, say__jinja2="user:\n{{ q }}\n")
    assert errors == [] and "differs" not in notes
    assert program["steps"]["first"]["when"] == "inputs.go == true"
    assert program["steps"]["last"]["with"] == {"q": "${{ default(steps.first.output, '') }}"}
    assert any("None, which the flow gives for the output of `first`" in text for text in notes["not imported"])


def test_a_list_of_a_flow_is_typed_by_the_prompt_that_takes_it_apart(tmp_path: Path) -> None:
    head = "inputs: {docs: {type: list}, ctx: {type: object, default: {n: 1}}}\n"
    head += "outputs: {a: {reference: '${say.output}'}}\nnodes:"
    say = LLM.format(name="say", path="say.jinja2", inputs="docs: '${inputs.docs}', ctx: '${inputs.ctx}'", api="chat")
    text = "user:\n{% for d in docs %}\n- {{ d.title }}\n  {% endfor %}\n{{ ctx.n }}"
    program, notes, errors = flow(tmp_path, head + say, say__jinja2=text)
    assert errors == [] and "differs" not in notes
    assert program["inputs"]["docs"] == "list[{title: str}]" and program["inputs"]["ctx"]["type"] == "{n: int}"


def test_turns_that_another_prompt_takes_apart_are_an_input_of_their_own(tmp_path: Path) -> None:
    head = "inputs: {log: {type: list, default: []}, q: {type: string}}\noutputs: {a: {reference: '${say.output}'}}\nnodes:"
    ask = LLM.format(name="ask", path="ask.jinja2", inputs="log: '${inputs.log}', q: '${inputs.q}'", api="chat")
    say = LLM.format(name="say", path="say.jinja2", inputs="log: '${inputs.log}', q: '${ask.output}'", api="chat")
    loop = "{% for m in log %}\nuser:\n{{ m.inputs.q }}\nassistant:\n{{ m.outputs.a }}\n{% endfor %}\nuser:\n{{ q }}"
    program, notes, errors = flow(
        tmp_path,
        head + ask + say,
        ask__jinja2="system:\nS\nuser:\n{% for m in log %}\nQ: {{ m.inputs.q }}\n{% endfor %}\n{{ q }}",
        say__jinja2=f"system:\nS\n{loop}",
    )
    assert errors == [] and "differs" not in notes
    assert program["inputs"]["log"] == {"type": "messages", "default": []}
    assert program["inputs"]["log_items"] == {"type": "list[{inputs: {q: str}}]", "default": []}
