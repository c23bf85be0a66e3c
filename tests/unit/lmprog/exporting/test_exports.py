"""Exported prompts give the requests that lmprog sends: each form is evaluated without lmprog, on the inputs of real calls."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.aio.loops import run_async
from lmprog.compiler import compile_file
from lmprog.compiler.plan import Plan
from lmprog.compiler.templates.compiled import Template, parse
from lmprog.compiler.types.lattice import INT, STR
from lmprog.errors import UsageError
from lmprog.exporting.exported import exported_modules
from lmprog.exporting.form import literal
from lmprog.exporting.plain_jinja import Hole, fixed_text, template_text
from lmprog.exporting.texts import exported_texts
from lmprog.lms.sending import as_sent
from lmprog.runtime.program import load
from lmprog.runtime.rendering import rendered
from lmprog.scoring.data import rows_of

SPECS = Path(__file__).parents[4] / "specs"
GALLERY = sorted(page.parent.name for page in SPECS.glob("gallery/*/README.md"))
PROGRAMS = ["quickstart.yaml", *(f"gallery/{name}/{name}.yaml" for name in GALLERY)]
Request = dict[str, Any]

ODD = r"""
lmprog: 1
name: odd
inputs: {class: str, messages: str}
vars: {names: [a, "b\"{{"], brace: "{", one: "x\r\ny {% if %}", n: 3, truth: true, none_: null}
lms:
  api: {model: openai/gpt-4.1-mini, params: {temperature: 0.5, stop: ["\n"]}}
  words: {model: hf/none/none, params: {max_tokens: 4}}
tools: {find: {python: "./tools.py:find", result: found, effects: read}}
modules:
  braces:
    lm: api
    inputs: {class: str, messages: str, said: str}
    outputs: {a: str}
    instructions: "Write {\"a\": {{x}} and {% raw %} {# c #} {"
    prompt:
      system: "{{ instructions }}{{ vars.brace }}"
      user: "{{ vars.brace }}{{ class }}}{% raw %}{{ no }}{% endraw %}{{ '{%' }} {{ vars.one }}{{ messages }}{{ said }}\n"
  blocks:
    lm: api
    inputs: {rec: {items: "list[str]", keys: str, c: "str?"}, n: int, xs: "list[str]", obj: json, maybe: "str?"}
    outputs: {a: str, b: "list[str]"}
    instructions: "  Two\r\nlines.  "
    prompt:
      system: |
        {{ instructions }}
          {% for name in vars.names %}
        - {{ name }} {{ loop.index }}
          {% endfor %}
        {% if n > 2 %}{# gone #}Many {{ vars.n }}{% endif %}
      user: |
        {% for item in rec.items %}
          {{ item | upper }}
        {%- endfor +%}
        {{ rec.keys.split('-') | join(',') }} {{ obj | tojson(indent=1) }} {{ "é<" | tojson }}
        {% if rec.c is not none %}{{ rec.c }}{% endif %}
        {% set class = 'own' %}{{ class }} {% if vars.truth %}true{% endif %}{{ maybe | default('-', true) }}
        {% filter trim %}  {{ xs[:1] | first }} {% endfilter %}
  shown:
    lm: api
    inputs: {text: str}
    outputs: {a: str}
    demos: [{text: "1 {{x}}", a: "one\r\n{"}, {text: "é\u2028", a: "\U0001f600"}]
    prompt: {user: "{% for demo in demos %}{{ demo.text }}={{ demo.a }};{% endfor %}{{ text }}\n\n"}
  turns:
    lm: api
    inputs: {text: str, n: float, kind: {enum: [p, q]}}
    outputs: {a: str, b: int}
    demos: [{text: "1 {{x}}", n: 1.5, kind: p, a: "one\r\n{", b: 2}, {text: "é\u2028", n: 2, kind: q, a: "\U0001f600", b: 3}]
    prompt: {user: "{{ kind }}:{{ text }}{{ n }}{", assistant: "{{ a }}/{{ b }}"}
  chat:
    lm: api
    inputs: {earlier: messages, text: str, more: {type: "messages?"}}
    outputs: {a: str}
    demos: [{earlier: [{role: user, content: "hi {"}], text: ok, a: b}]
  only:
    lm: api
    inputs: {earlier: messages}
    outputs: {a: str}
    prompt: {user: " "}
  fixed:
    lm: api
    inputs: {text: str, earlier: {type: messages, default: [{role: assistant, content: "It's {{me}}."}]}}
    outputs: {a: str}
    prompt: {user: "Say {{ text }}"}
  agent:
    lm: words
    inputs: {text: str}
    outputs: {a: str}
    tools: [find]
    max_turns: 3
    prompt: {system: "  {% if text == 'A' %}B {} {% endif %}", user: "{{ text }}"}
  caller:
    lm: api
    inputs: {text: str}
    outputs: {a: json}
    format: json
    tools: [find]
    max_turns: 2
  quiet:
    lm: api
    inputs: {text: str}
    outputs: {a: str}
    prompt: {system: " {% if text != 'A' %}B{% endif %}\n", user: "{{ text }}\n"}
steps:
  braces: {module: braces, with: {class: "${{ inputs.class }}", messages: "${{ inputs.messages }}", said: s}}
  blocks:
    module: blocks
    with: {rec: {items: [a, b], keys: k-l, c: "${{ inputs.class }}"}, n: 3, xs: ["1"], obj: {b: "<é>", a: [1, null]}, 
      maybe: null}
  shown: {module: shown, with: {text: "${{ inputs.class }}"}}
  turns: {module: turns, with: {text: "{{ x }}", n: 2.0, kind: q}}
  chat: {module: chat, with: {earlier: [{role: user, content: a}, {role: assistant, content: b}], text: " ", more: null}}
  alone: {module: chat, with: {earlier: [], text: " ", more: [{role: user, content: c}]}}
  empty: {module: chat, with: {earlier: [], text: " ", more: []}}
  only: {module: only, with: {earlier: [{role: user, content: a}]}}
  fixed: {module: fixed, with: {text: "'"}}
  agent: {module: agent, with: {text: A}}
  agents: {module: agent, with: {text: B}}
  caller: {module: caller, with: {text: A}}
  quiet: {module: quiet, with: {text: A}}
  loud: {module: quiet, with: {text: B}}
  call: {program: inner.yaml, with: {text: "${{ inputs.class }}"}}
outputs: {a: "${{ steps.braces.a }}", t: "${{ steps.call.fixed }}"}
data: {dev: dev.jsonl}
"""
IMAGES = """
lmprog: 1
name: images
inputs: {one: image, text: str}
lms: {api: {model: openai/gpt-4.1-mini}}
modules:
  one: {lm: api, inputs: {one: image, text: str}, outputs: {a: str}}
  other: {lm: api, inputs: {other: image}, outputs: {a: str}, prompt: {user: ""}}
  some:
    {lm: api, inputs: {many: "list[image]", maybe: "image?", text: str, earlier: messages}, outputs: {a: str}}
steps:
  one: {module: one, with: {one: "${{ inputs.one }}", text: "${{ inputs.text }}"}}
  other: {module: other, with: {other: "${{ inputs.one }}"}}
  some: {module: some, with: {many: ["${{ inputs.one }}", b.png], maybe: "${{ inputs.one }}", text: " ", earlier: []}}
  none: {module: some, with: {many: [], maybe: null, text: x, earlier: []}}
  blank: {module: some, with: {many: [], maybe: null, text: " ", earlier: [{role: user, content: a}]}}
outputs: {a: "${{ steps.one.a + steps.other.a + steps.some.a + steps.none.a + steps.blank.a }}"}
data: {dev: dev.jsonl}
"""
INNER = """
lmprog: 1
name: inner
lms: {writer: {model: anthropic/claude-sonnet-4-5, params: {max_tokens: 64}}}
modules: {fix: {lm: writer, inputs: {text: str}, outputs: {fixed: str}, instructions: Correct the text.}}
inputs: {text: str}
steps: {mend: {module: fix, with: {text: "${{ inputs.text }}"}}}
outputs: {fixed: "${{ steps.mend.fixed }}"}
"""


def calls(spec: Path, row: int = 0) -> tuple[Plan, list[tuple[str, Mapping[str, Any], Request]]]:
    """Return the program, and for each LM call of a row its exported module's name, its inputs and its request."""
    program = load(spec)
    rows = rows_of(program.plan, next(iter(program.plan.data)))
    result, requests = run_async(lambda: rendered(program, program.inputs_of(rows[row]), row))
    assert result.error is None
    made_first = [made for made in reversed(result.trace) if hasattr(made, "messages")]
    records = {(f"{made.parent}/{made.path}" if made.parent else made.path): made for made in made_first}
    found = []
    for made in requests:
        steps = [part.split("[")[0] for part in made.path.split("/")[:-1]]
        sent = as_sent(made.lm, made.request)
        kept = {key: value for key, value in sent.items() if key not in ("seed", "messages")}
        name = "".join(f"{step.rpartition('.')[2]}_" for step in steps) + made.module.id
        found.append(
            (name, records[made.path].inputs, {**kept, "messages": [dict(turn) for turn in made.request.messages]})
        )
    return program.plan, found


def from_python(plan: Plan) -> Callable[..., Request]:
    space: dict[str, Any] = {}
    exec(compile(exported_texts(plan, "python").texts["prompts.py"], "prompts.py", "exec"), space)
    names = {"class": "class_"}
    return lambda name, inputs: space[name](**{names.get(key, key): value for key, value in inputs.items()})


def from_langchain(plan: Plan) -> Callable[..., Request]:
    core = pytest.importorskip("langchain_core.messages", reason="needs langchain-core, of the extra `peers`")
    space: dict[str, Any] = {}
    exec(compile(exported_texts(plan, "langchain").texts["prompts.py"], "prompts.py", "exec"), space)

    def request(name: str, inputs: Mapping[str, Any]) -> Request:
        messages = space[name.upper()].invoke(dict(inputs)).to_messages()
        return {**space[f"{name.upper()}_FIELDS"], "messages": core.convert_to_openai_messages(messages)}

    return request


def plain_jinja() -> jinja2.Environment:
    """Return an environment with no settings but the `tojson` that the exports speak of."""
    environment = jinja2.Environment()
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment


def from_jinja(plan: Plan) -> Callable[..., Request]:
    texts, fields = (
        exported_texts(plan, "jinja").texts,
        {module.name: module.fields for module in exported_modules(plan)},
    )

    def request(name: str, inputs: Mapping[str, Any]) -> Request:
        text = plain_jinja().from_string(texts[f"{name}.jinja"]).render(**inputs)
        return {**fields[name], "messages": json.loads(text)}

    return request


def from_messages(plan: Plan) -> Callable[..., Request]:
    document = json.loads(exported_texts(plan, "messages").texts["messages.json"])

    def text(template: str, values: Mapping[str, Any]) -> str:
        return plain_jinja().from_string(template).render(**values)

    def content(written: Any, values: Mapping[str, Any]) -> Any:
        if isinstance(written, str):
            return text(written, values)
        return [
            {
                **part,
                **{key: text(part[key], values) for key in part if key == "text"},
                **{key: {"url": text(part[key]["url"], values)} for key in part if key == "image_url"},
            }
            for part in written
        ]

    def request(name: str, inputs: Mapping[str, Any]) -> Request:
        module = document["modules"][name]
        values, messages = {**module.get("defaults", {}), **inputs}, []
        for message in module["request"]["messages"]:
            if "placeholder" in message:
                messages += values[message["placeholder"]] or []
            else:
                messages.append({"role": message["role"], "content": content(message["content"], values)})
        # As the page says: a system message without a text is left out, and so is a blank turn of the user behind others.
        turns = any(
            values[message["placeholder"]] for message in module["request"]["messages"] if "placeholder" in message
        )
        if turns and messages[-1]["role"] == "user" and not str(messages[-1]["content"]).strip():
            messages.pop()
        messages = [turn for turn in messages if turn["role"] != "system" or turn["content"]]
        return {**module["request"], "messages": messages}

    return request


FORMS = {"python": from_python, "langchain": from_langchain, "jinja": from_jinja, "messages": from_messages}
each_form = pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[pytest.mark.slow] if form == "langchain" else []) for form in sorted(FORMS)]
)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_the_same_requests(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir((SPECS / name).parent)
    plan, made = calls(SPECS / name, row=1)
    for form, from_form in FORMS.items():
        exported = from_form(plan)
        assert made and [exported(module, inputs) for module, inputs, _ in made] == [sent for _, _, sent in made], form


@pytest.fixture
def odd(write: Callable[..., Path]) -> Path:
    write("def find(query: str) -> str:\n    '''Finds {} and {{a}}.'''\n    return query\n", "tools.py")
    write(json.dumps({"class": "a{", "messages": "{{ b }}", "one": "a.png", "text": "x {"}) + "\n", "dev.jsonl")
    write(INNER, "inner.yaml")
    write(IMAGES, "images.yaml")
    return write(ODD, "odd.yaml")


@each_form
def test_a_prompt_gives_the_same_requests_whatever_is_in_it(odd: Path, form: str) -> None:
    plan, made = calls(odd)
    exported = FORMS[form](plan)
    assert len(made) == 15
    for module, inputs, request in made:
        assert exported(module, inputs) == request, module


@each_form
def test_images_stand_beside_the_text(odd: Path, form: str) -> None:
    plan, made = calls(odd.with_name("images.yaml"))
    if form == "messages":
        with pytest.raises(UsageError, match="the images of `many` of the module `some` are none or several"):
            exported_texts(plan, form)
        return
    exported = FORMS[form](plan)
    assert [exported(module, inputs) for module, inputs, _ in made] == [request for _, _, request in made]


WORDS = st.text(st.sampled_from("{}%#-+\\\"'\n\r\u2028\x85 ax\U0001f600"), max_size=12)


@given(WORDS)
def test_a_fixed_text_is_written_so_that_it_is_read_as_it_is(text: str) -> None:
    made = fixed_text(text)
    assert jinja2.Environment().from_string(made.alone).render() == text == made.fixed
    assert jinja2.Environment().from_string(f"{made.template}{{% if true %}}!{{% endif %}}").render() == f"{text}!"
    assert ast.literal_eval(literal(text, 4)) == text
    assert ast.literal_eval(literal([text, {text: [text] * 20, "n": None}], 0)) == [
        text,
        {text: [text] * 20, "n": None},
    ]


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_number_without_a_literal_is_written_in_python_too(number: float) -> None:
    assert str(eval(literal({"n": number}, 0))["n"]) == str(number)


TAGS = st.sampled_from(["", "-", "+"])
TEXTS = st.text(st.sampled_from("{}\n  ab"), max_size=5).filter(lambda text: not re.search(r"\{[{%#]|\{$", text))


def around(begin: str, end: str) -> st.SearchStrategy[str]:
    return st.builds(
        lambda a, b, c, d, inside: f"{{%{a} {begin} {b}%}}{inside}{{%{c} {end} {d}%}}", TAGS, TAGS, TAGS, TAGS, TEXTS
    )


PIECES = st.one_of(
    TEXTS,
    around("if n", "endif"),
    around("for x in xs", "endfor"),
    st.builds(lambda a, b, inside: f"{{%{a} raw %}}{inside}{{{{{{%{b} endraw %}}", TAGS, TAGS, TEXTS),
    st.builds(lambda a, b: f"{{#{a} c {b}#}}", TAGS, TAGS),
    st.builds(
        lambda a, b, inside: f"{{{{{a} {inside} {b}}}}}",
        st.sampled_from(["", "-"]),
        st.sampled_from(["", "-"]),
        st.sampled_from(["n", "vars.w", "instructions", "rec.items | join", "rec.keys", "w.title()", "'{%'"]),
    ),
)


@given(st.lists(PIECES, max_size=6).map("".join))
def test_a_template_for_plain_jinja_renders_as_lmprog_does(text: str) -> None:
    try:
        parse(text)
    except jinja2.TemplateSyntaxError:  # such as a bracket before a tag
        return
    fixed = {"instructions": "  {{ no }}\n{", "vars": {"w": "{% x\r\n"}, "demos": ()}
    values = {"n": 1, "xs": [1, 2], "rec": {"items": ["a"], "keys": "k"}, "w": "v"}
    made = template_text(text, fixed, {"n": INT, "w": STR})
    assert jinja2.Environment().from_string(made.alone).render(values) == Template(text).render({**fixed, **values})
    if made.pieces is not None:
        shown = "".join(str(values[piece.name]) if isinstance(piece, Hole) else piece for piece in made.pieces)
        assert shown == Template(text).render({**fixed, **values})


def test_what_is_not_exported_is_said(odd: Path) -> None:
    plan = compile_file(odd).plan
    assert plan is not None
    assert exported_texts(plan, "python", "agent").notes == [
        "the model of `agent`, hf/none/none, which runs in lmprog's process: name the server that you use",
        "the turns of `agent` after its LM has called a tool: this is its first request",
    ]
    with pytest.raises(UsageError, match="odd calls no module 'agnt'; did you mean `agent`"):
        exported_texts(plan, "python", "agnt")


def test_demos_that_are_chosen_for_a_call_are_refused(write: Callable[..., Path]) -> None:
    head = (
        "lmprog: 1\nname: a\nlms: {m: {model: openai/a}}\nmodules:\n  a: {lm: m, inputs: {t: str}, outputs: {o: str}, "
    )
    plan = compile_file(write(head + "demos: {nearest: 1, of: [{t: a, o: b}, {t: c, o: d}]}}")).plan
    assert plan is not None
    with pytest.raises(UsageError, match="the module `a` chooses its demos for each call"):
        exported_texts(plan, "python")


def test_modules_whose_names_differ_by_case_alone_get_names_of_their_own(write: Callable[..., Path]) -> None:
    ask = "{lm: m, inputs: {t: str}, outputs: {o: str}, instructions: "
    step = 'with: {t: "${{ inputs.t }}"}}'
    plan = compile_file(
        write(f"""
            lmprog: 1
            name: a
            lms: {{m: {{model: openai/a}}}}
            inputs: {{t: str}}
            modules: {{ask: {ask}One.}}, Ask: {ask}Two.}}}}
            steps: {{one: {{module: ask, {step}, two: {{module: Ask, {step}}}
            outputs: {{o: "${{{{ steps.one.o + steps.two.o }}}}"}}
        """)
    ).plan
    assert plan is not None
    assert [*exported_texts(plan, "jinja").texts] == ["ask.jinja", "Ask_.jinja"]
    code = exported_texts(plan, "langchain").texts["prompts.py"]
    assert all(re.search(rf"^{name} = ", code, re.MULTILINE) for name in ("ASK", "ASK_"))
