"""What prompt flows and prompty files are made of, and what they become."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmprog.compiler import compile_file
from lmprog.errors import UsageError
from lmprog.imports import promptflow, prompty
from lmprog.imports.models import named, number
from lmprog.imports.program import Imported, Note, identifier
from lmprog.imports.python_tools import tool_function
from lmprog.imports.roles import split
from lmprog.imports.shapes import uses


@pytest.mark.parametrize(
    ("text", "system", "user"),
    [
        ("system:\nBe kind.\n\nuser:\n{{ a }}\n", "Be kind.", "{{ a }}"),
        ("# system:\nBe kind.\n# User:\n{{ a }}", "Be kind.", "{{ a }}"),
        ("Be kind.\nuser[name=\"x\"]:\n{{ a }}", "Be kind.", "{{ a }}"),
        ("developer:\nBe kind.\nsystem:\nBe short.\nuser:\n{{ a }}", "Be kind.\n\nBe short.", "{{ a }}"),
        ("user:\nthe system: it\nuser: is text here", None, "the system: it\nuser: is text here"),
    ],
)  # fmt: skip
def test_role_lines(text: str, system: str | None, user: str) -> None:
    prompt = split(text)
    assert (prompt.system, prompt.user, prompt.turns, prompt.notes) == (system, user, (), ())


@pytest.mark.parametrize(
    "loop",
    [
        "{% for item in log %}\n# user:\n{{item.inputs.q}}\n# assistant:\n{{item.outputs.a}}\n{% endfor %}\n",
        "{%- for m in log -%}\n{{m.role}}:\n{{ m.content }}\n{%- endfor -%}\n",
    ],
)
def test_a_loop_over_messages_is_a_turn(loop: str) -> None:
    prompt = split(f"system:\nBe kind.\n{loop}user:\n{{{{ q }}}}\n")
    assert prompt.turns == ("log",)
    assert (prompt.system, prompt.user) == ("Be kind.", "{{ q }}")
    assert prompt.variables == {"q"}


def test_a_thread_is_a_turn_only_on_its_own_line() -> None:
    text = "system:\nBe kind.\n{{ talk }}\nuser:\nSo far: {{ talk }} now {{ q }}"
    assert split(text, threads=("talk",)).turns == ("talk",)
    assert split("user:\nSo far: {{ talk }}", threads=("talk",)).turns == ()


def test_a_loop_over_rows_stays() -> None:
    text = "user:\n{% for row in rows %}{{ row.a }}{% endfor %}{{ b }}{{ c[0] }}"
    assert split(text).user == text.removeprefix("user:\n")
    assert {name for name, use in uses(text).items() if use.taken_apart} == {"rows", "c"}


def test_earlier_turns_without_variables_stay_turns() -> None:
    prompt = split("system:\nS\nuser:\nhi\nassistant:\nhello\nuser:\n{{ q }}")
    assert (prompt.user, prompt.notes) == ("{{ q }}", ())
    assert prompt.earlier == ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"})


def test_earlier_turns_with_variables_are_kept_and_told() -> None:
    prompt = split("system:\nS\nuser:\nhi {{ p }}\nassistant:\nhello\nuser:\n{{ q }}")
    assert prompt.user == "User:\nhi {{ p }}\n\nAssistant:\nhello\n\nUser:\n{{ q }}"
    assert len(prompt.notes) == 1


def test_roles_inside_a_condition_are_kept_and_told() -> None:
    text = "system:\nS\n{% if a %}\nuser:\n{{ a }}\n{% endif %}"
    prompt = split(text)
    assert (prompt.system, prompt.user) == (None, text)
    assert len(prompt.notes) == 1


def test_a_system_text_alone_is_sent_as_the_users() -> None:
    prompt = split("system:\nSay {{ a }}.")
    assert (prompt.system, prompt.user, len(prompt.notes)) == (None, "Say {{ a }}.", 1)


def test_only_a_constant_system_text_becomes_instructions() -> None:
    assert split("system:\nS\nuser:\nU").layout() == {
        "instructions": "S", "prompt": {"system": "{{ instructions }}", "user": "U"},
    }  # fmt: skip
    assert split("system:\nS {{ a }}\nuser:\nU").layout() == {"prompt": {"system": "S {{ a }}", "user": "U"}}


def test_names_and_numbers() -> None:
    assert [identifier(name) for name in ("a b-c", "3d", "ä", "ok")] == ["a_b_c", "_3d", "_", "ok"]
    assert [number(value) for value in ("256", "0.2", "abc", 7, [1])] == [256, 0.2, "abc", 7, [1]]


def test_notes_are_comments_of_their_section_and_never_more() -> None:
    made = Imported(
        "a", "b", {"lms": {"m": {"model": "openai/x", "params": {"stop": ["no", "007", "1e3", "x\ny"]}}}},
        (Note("lms", "one\nsteps: {}"), Note("outputs", "two")),
    )  # fmt: skip
    text = made.text()
    assert "\n# not imported: one steps: {}\nlms:\n" in text
    assert text.startswith("# made by `lmprog import` from b\n# not imported: two\nlmprog: 1\n")
    assert yaml.safe_load(text)["lms"]["m"]["params"]["stop"] == ["no", "007", "1e3", "x\ny"]
    assert '"1e3"' in text and '"007"' in text


def test_tool_functions(tmp_path: Path) -> None:
    def of(text: str) -> Any:
        path = tmp_path / "t.py"
        path.write_text(text)
        found = tool_function(path)
        return found and (found.name, found.returns, found.needs_promptflow)

    assert of("from promptflow.core import tool\n@tool\ndef f(a) -> str: ...") == ("f", "str", True)
    assert of("import marks\n@marks.tool(x=1)\nasync def f(a) -> list[int]: ...") == ("f", "list[json]", False)
    assert of("def g(): ...\n@tool\ndef f(a): ...") == ("f", None, False)
    assert of("def g(): ...") is None
    assert of("def g(:") is None


# prompty


def prompty_of(
    tmp_path: Path, front: str, body: str = "system:\nBe kind.\nuser:\n{{ q }}\n"
) -> tuple[dict[str, Any], str]:
    """The program of a prompty file as values, and its notes."""
    path = tmp_path / "card.prompty"
    path.write_text(f"---\n{front.strip()}\n---\n{body}", encoding="utf-8")
    made = prompty.imported(path)
    text = made.text()
    spec = tmp_path / "made.yaml"
    spec.write_text(text, encoding="utf-8")
    errors = [str(finding) for finding in compile_file(spec).findings if finding.severity == "error"]
    assert errors == []
    program: dict[str, Any] = yaml.safe_load(text)
    return program, "\n".join(note.text for note in made.notes)


def test_prompty_of_the_first_generation(tmp_path: Path) -> None:
    front = """
name: Thank You Card
description: Thanks a guest.
authors: [ann]
model:
  api: chat
  configuration:
    type: azure_openai
    azure_deployment: gpt-4o
    azure_endpoint: ${env:OUR_ENDPOINT}
    api_key: ${env:OUR_KEY}
    api_version: "2024-06-01"
  parameters: {max_tokens: 100, temperature: 0.5, stream: true}
inputs:
  guest: {type: string, description: Who came, default: Bo}
  nights: {type: integer}
sample: {guest: Ada, nights: 2, hint: rain}
"""
    body = "system:\nYou write cards.\nuser:\n{{ guest }}, {{ nights }} nights, {{ hint }}\n"
    program, notes = prompty_of(tmp_path, front, body)
    assert program["name"] == "thank_you_card"
    assert program["description"] == "Thanks a guest."
    assert program["lms"]["model"] == {
        "model": "azure/gpt-4o",
        "params": {"max_tokens": 100, "temperature": 0.5},
        "api_key": "${{ env.OUR_KEY }}",
        "api_base": "${{ env.OUR_ENDPOINT }}",
    }
    module = program["modules"]["thank_you_card"]
    guest = {"type": "str", "about": "Who came", "default": "Bo"}
    assert module["inputs"] == {"hint": "str", "guest": guest, "nights": "int"}
    assert module["instructions"] == "You write cards."
    assert module["outputs"] == {"output": "str"}
    assert program["tests"]["the sample runs"]["inputs"] == {"guest": "Ada", "nights": 2, "hint": "rain"}
    for told in ("`authors`", "`stream: true`", "`api_version: 2024-06-01`"):
        assert told in notes


def test_prompty_of_the_second_generation(tmp_path: Path) -> None:
    front = """
name: sums
model:
  id: claude-sonnet-4-5
  provider: anthropic
  connection: {kind: key, apiKey: "${env:CLAUDE_KEY}"}
  options: {maxOutputTokens: 64, topP: 0.9}
inputSchema:
  properties:
    - {name: q, kind: string, default: one and one}
    - {name: talk, kind: thread}
outputs:
  - {name: total, kind: float, description: The sum}
  - {name: steps, kind: array}
"""
    body = "system:\nAdd up.\n\n{{talk}}\n\nuser:\n{{ q }}\n"
    program, notes = prompty_of(tmp_path, front, body)
    assert program["lms"]["model"] == {
        "model": "anthropic/claude-sonnet-4-5",
        "params": {"max_tokens": 64, "top_p": 0.9},
        "api_key": "${{ env.CLAUDE_KEY }}",
    }
    module = program["modules"]["sums"]
    assert module["inputs"]["talk"] == {"type": "messages", "default": []}
    assert module["outputs"] == {"total": {"type": "float", "about": "The sum"}, "steps": "list[json]"}
    assert module["format"] == "json"
    assert notes == ""


def test_prompty_in_short(tmp_path: Path) -> None:
    program, notes = prompty_of(tmp_path, "model: gpt-4o")
    assert program["name"] == "card"
    assert program["lms"]["model"]["model"] == "openai/gpt-4o"
    assert "the type of `q`" in notes


def test_prompty_never_copies_a_key(tmp_path: Path) -> None:
    key = "sk-" + "a1B2c3D4" * 4
    front = f"model: {{configuration: {{type: openai, name: gpt-4o, api_key: {key}}}}}\ninputs: {{q: hello}}"
    program, notes = prompty_of(tmp_path, front)
    assert program["lms"]["model"]["api_key"] == "${{ env.OPENAI_API_KEY }}"
    assert key not in str(program) + notes + (tmp_path / "made.yaml").read_text()
    assert "a key is never written" in notes


def test_prompty_tools_in_the_body(tmp_path: Path) -> None:
    body = "tools:\n  - name: search\n    type: web\nsystem:\nBe kind.\nuser:\n{{ q }}\n"
    program, notes = prompty_of(tmp_path, "model: gpt-4o", body)
    assert program["modules"]["card"]["instructions"] == "Be kind."
    assert "the tools that stand before the messages" in notes


def test_prompty_sample_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text('{"q": "why", "n": 3}')
    program, _ = prompty_of(tmp_path, "model: gpt-4o\nsample: ${file:sample.json}", "user:\n{{ q }} {{ n }}")
    assert program["modules"]["card"]["inputs"] == {"q": "str", "n": "int"}
    _, notes = prompty_of(tmp_path, "model: gpt-4o\nsample: gone.json")
    assert "gone.json, which cannot be read" in notes


def test_prompty_tells_what_it_leaves(tmp_path: Path) -> None:
    front = """
model: {configuration: {type: mystery, name: m}, parameters: {response_format: "${file:x.json}", tools: [1]}, response: all}
inputs: {q: {type: tensor}, other: {type: string}}
tools: [{name: search}]
template: mustache
"""
    path = tmp_path / "card.prompty"
    path.write_text(f"---{front}---\nuser:\n{{{{ q }}}} {{{{#list}}}} ![pic](a.png)\n")
    made = prompty.imported(path)
    notes = "\n".join(note.text for note in made.notes)
    assert made.program["modules"]["card"]["prompt"]["user"] == "{{ q }} {{#list}} ![pic](a.png)"
    for told in (
        "`mystery`",
        "response_format",
        '"tools',
        "`tensor`",
        "`other`",
        "mustache",
        "![...]",
        "response: all",
    ):
        assert told.strip('"') in notes


@pytest.mark.parametrize(
    ("text", "words"),
    [("hello", "no front matter"), ("---\na: [\n---\nx", "is not YAML"), ("---\n- a\n---\nx", "not a mapping")],
)
def test_what_is_no_prompty_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.prompty"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        prompty.imported(path)


# prompt flow


def flow_of(tmp_path: Path, flow: str, **files: str) -> tuple[dict[str, Any], str, list[str]]:
    """The program of a flow as values, its notes, and the codes of its findings."""
    folder = tmp_path / "My flow"
    folder.mkdir(exist_ok=True)
    for name, text in {"flow.dag.yaml": flow, **{key.replace("__", "."): text for key, text in files.items()}}.items():
        (folder / name).write_text(text, encoding="utf-8")
    made = promptflow.imported(folder / "flow.dag.yaml", tmp_path)
    spec = tmp_path / "made.yaml"
    spec.write_text(made.text(), encoding="utf-8")
    codes = [finding.code for finding in compile_file(spec, imports=False).findings if finding.severity == "error"]
    program: dict[str, Any] = yaml.safe_load(made.text())
    return program, "\n".join(note.text for note in made.notes), codes


FLOW = """
inputs:
  history: {type: list, default: []}
  dish: {type: string, is_chat_input: true, description: What to cook}
  people: {type: int, default: 2}
outputs:
  recipe: {type: string, reference: "${write.output}", is_chat_output: true}
  cups: {type: string, reference: "${amounts.output.cups}"}
nodes:
- name: amounts
  type: python
  source: {type: code, path: amounts.py}
  inputs: {people: "${inputs.people}", unit: cup}
- name: write
  type: llm
  source: {type: code, path: write.jinja2}
  inputs:
    deployment_name: gpt-35-turbo
    model: gpt-3.5-turbo
    max_tokens: "256"
    temperature: "0.7"
    stop: ""
    history: ${inputs.history}
    dish: ${inputs.dish}
    cups: ${amounts.output.cups}
    amounts: ${amounts.output}
  provider: AzureOpenAI
  connection: kitchen
  api: chat
"""
AMOUNTS = (
    "from promptflow.core import tool\n\n@tool\ndef amounts(people: int, unit: str = 'cup') -> dict:\n    return {}\n"
)
WRITE = (
    "# system:\nYou write recipes.\n\n{% for item in history %}\n# user:\n{{item.inputs.dish}}\n# assistant:\n"
    "{{item.outputs.recipe}}\n{% endfor %}\n\n# user:\n{{dish}}: {{cups}} of {{amounts}}\n"
)


def test_a_flow(tmp_path: Path) -> None:
    program, notes, codes = flow_of(tmp_path, FLOW, amounts__py=AMOUNTS, write__jinja2=WRITE)
    assert codes == []
    assert program["name"] == "my_flow"
    assert program["inputs"] == {
        "history": {"type": "messages", "default": []},
        "dish": {"type": "str", "about": "What to cook"},
        "people": {"type": "int", "default": 2},
    }
    assert program["outputs"] == {"recipe": "${{ steps.write.output }}", "cups": "${{ steps.amounts.output.cups }}"}
    assert program["lms"] == {
        "gpt_35_turbo": {
            "model": "azure/gpt-35-turbo",
            "params": {"max_tokens": 256, "temperature": 0.7},
            "api_key": "${{ env.AZURE_API_KEY }}",
            "api_base": "${{ env.AZURE_API_BASE }}",
        }
    }
    assert program["tools"] == {"amounts": {"python": "./My flow/amounts.py:amounts", "result": "output"}}
    module = program["modules"]["write"]
    assert module["inputs"] == {"amounts": "str", "cups": "str", "dish": "str", "history": "messages"}
    assert (module["instructions"], module["prompt"]["user"]) == (
        "You write recipes.",
        "{{dish}}: {{cups}} of {{amounts}}",
    )
    assert program["steps"]["amounts"] == {"tool": "amounts", "with": {"people": "${{ inputs.people }}", "unit": "cup"}}
    assert program["steps"]["write"]["with"] == {
        "amounts": "${{ json(steps.amounts.output) }}",
        "cups": "${{ str(steps.amounts.output.cups) }}",
        "dish": "${{ inputs.dish }}",
        "history": "${{ inputs.history }}",
    }
    for told in ("`kitchen`", "a list of {role, content}", "prompt flow itself"):
        assert told in notes


def node(text: str) -> str:
    head = "inputs: {q: {type: string}, n: {type: int}}\noutputs: {a: {reference: '${say.output}'}}\nnodes:\n"
    return head + text


SAY = (
    "- {name: say, type: llm, provider: OpenAI, source: {type: code, path: say.jinja2}, "
    "inputs: {model: gpt-4o, q: '${inputs.q}'}"
)


def test_activate_is_when(tmp_path: Path) -> None:
    flow = node(SAY + ", activate: {when: '${inputs.n}', is: 3}}\n")
    program, _, codes = flow_of(tmp_path, flow, say__jinja2="user:\n{{ q }}")
    assert program["steps"]["say"]["when"] == "inputs.n == 3"
    assert codes == []


def test_equal_models_are_one_lm(tmp_path: Path) -> None:
    other = SAY.replace("name: say", "name: two")
    third = SAY.replace("name: say", "name: three").replace("model: gpt-4o", "model: gpt-4o, temperature: 1")
    flow = node(f"{SAY}}}\n{other}}}\n{third}}}\n")
    program, _, _ = flow_of(tmp_path, flow, say__jinja2="user:\n{{ q }}")
    assert {id: module["lm"] for id, module in program["modules"].items()} == {
        "say": "gpt_4o", "two": "gpt_4o", "three": "three_lm",
    }  # fmt: skip


def test_a_new_lm_takes_the_place_of_no_other() -> None:
    lms: dict[str, dict[str, Any]] = {}
    entries = [{"model": "azure/ask_lm"}, {"model": "azure/gpt"}, *({"model": "azure/gpt", "n": n} for n in range(2))]
    assert [named(lms, entry, "ask") for entry in entries] == ["ask_lm", "gpt", "ask_lm_2", "ask_lm_3"]
    assert list(lms.values()) == entries


def test_the_default_variant_is_taken(tmp_path: Path) -> None:
    flow = node("- {name: say, use_variants: true}\n") + (
        "node_variants: {say: {default_variant_id: b, variants: {a: {node: {type: llm}}, b: {node: {type: llm, "
        "provider: OpenAI, source: {type: code, path: say.jinja2}, inputs: {model: gpt-4o, q: '${inputs.q}'}}}}}}\n"
    )
    program, notes, codes = flow_of(tmp_path, flow, say__jinja2="user:\n{{ q }}")
    assert program["modules"]["say"]["lm"] == "gpt_4o"
    assert "the variant `a` of the node `say`; the program has `b`" in notes
    assert codes == []


def test_a_list_that_a_prompt_loops_over_stays_a_list(tmp_path: Path) -> None:
    flow = node(SAY + "}\n").replace("q: {type: string}", "q: {type: list}")
    text = "user:\n{% for part in q %}{{ part.name | tojson }}{% endfor %}"
    program, _, codes = flow_of(tmp_path, flow, say__jinja2=text)
    assert program["modules"]["say"]["inputs"] == {"q": "list[json]"}
    assert program["steps"]["say"]["with"] == {"q": "${{ inputs.q }}"}
    assert codes == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- {name: x, type: prompt, source: {type: code, path: if.jinja2}}", "the node `x` of type `prompt`"),
        ("- {name: x, type: python, aggregation: true, source: {type: code, path: t.py}}", "the aggregation node `x`"),
        ("- {name: x, type: python, source: {type: package, tool: a.b.c}}", "no file for its source"),
        ("- {name: x, type: llm, source: {type: code, path: gone.jinja2}}", "no file for its source"),
        ("- {name: x, type: python, source: {type: code, path: t.py}}", "t.py has no function marked `@tool`"),
        (SAY.replace("model: gpt-4o", "old: 1, functions: [1]") + "}", "say.jinja2 does not use it"),
        (SAY.replace("model: gpt-4o", "old: 1, functions: [1]") + "}", "an agent's tools are `tools`"),
        (SAY.replace("model: gpt-4o, ", "") + "}", "the model of the node `say`"),
        (SAY.replace("q: '", "r: '") + "}", "gives it no value"),
    ],
)  # fmt: skip
def test_what_a_flow_leaves(tmp_path: Path, text: str, told: str) -> None:
    _, notes, _ = flow_of(
        tmp_path, node(text + "\n"), say__jinja2="user:\n{{ q }}", if__jinja2="{% if q %}", t__py="def f(): ...\n"
    )
    assert told in notes


def test_what_is_no_flow(tmp_path: Path) -> None:
    path = tmp_path / "flow.dag.yaml"
    with pytest.raises(UsageError, match="there is no"):
        promptflow.imported(path, tmp_path)
    for text, words in (("a: [", "is not YAML"), ("entry: flow:run", "no prompt flow DAG")):
        path.write_text(text)
        with pytest.raises(UsageError, match=words):
            promptflow.imported(path, tmp_path)


# files that are wrong in some way

ODD: list[Any] = [
    None,
    1,
    True,
    "",
    "a\nb: c",
    "${a.output}",
    "${{ inputs.q }}",
    [],
    [1, None],
    {},
    {1: 2},
    {"a": [{}]},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def changed(value: Any, draw: random.Random) -> Any:
    """The value with up to three of its parts dropped, renamed, or replaced by something odd."""
    value = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        *around, last = draw.choice(list(places(value)) or [(None,)])
        inner = value
        for key in around:
            inner = inner[key]
        if last is None:
            continue
        if draw.random() < 0.4:
            part = inner.pop(last)
            if isinstance(inner, dict) and draw.random() < 0.5:
                inner[draw.choice([1, None, "odd key", "é", "type", "name"])] = part
        else:
            inner[last] = copy.deepcopy(draw.choice(ODD))
    return value


FRONT = """
name: card
description: Thanks a guest.
model: {configuration: {type: azure_openai, azure_deployment: x, api_key: "${env:K}"}, parameters: {max_tokens: 100}}
inputs: {guest: {type: string, default: Bo}, talk: {kind: thread}}
outputs: {a: {type: string}}
sample: {guest: Ada, hint: rain}
template: {format: {kind: mustache}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_any_file_is_imported_or_refused(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    files = {"say.jinja2": "user:\n{{ q }}", "write.jinja2": WRITE, "amounts.py": AMOUNTS}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    flow, card = tmp_path / "flow.dag.yaml", tmp_path / "card.prompty"
    for _ in range(10):
        before = draw.choice([FLOW, node(SAY + ", activate: {when: '${inputs.n}', is: 3}}\n")])
        flow.write_text(yaml.safe_dump(changed(yaml.safe_load(before), draw)))
        front = yaml.safe_dump(changed(yaml.safe_load(FRONT), draw))
        card.write_text(f"---\n{front}---\nsystem:\nA {{{{ hint }}}}\n{{{{talk}}}}\nuser:\n{{{{ guest }}}}\n")
        for convert in (lambda: promptflow.imported(flow, tmp_path), lambda: prompty.imported(card)):
            try:
                made = convert()
            except UsageError:
                continue
            program = yaml.safe_load(made.text())
            assert program["lmprog"] == 1
            assert {key for key in program if made.program.get(key)} == {
                key for key in made.program if made.program[key]
            }
