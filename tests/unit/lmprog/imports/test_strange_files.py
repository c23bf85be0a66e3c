"""Files of other tools that nobody has looked at: no secret, no foreign file and no node is lost or copied, and none ends in a
traceback or fills the memory.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmprog.errors import UsageError
from lmprog.imports import dspy, promptflow, prompty
from lmprog.imports.files import read_yaml
from lmprog.imports.original import NotRendered, rendered
from lmprog.imports.roles import split
from lmprog.imports.shapes import uses

SECRET = "sk-abcdefghijkl"


def of_prompty(folder: Path, front: str, body: str = "user:\nhello {{ q }}\n") -> str:
    path = folder / "a.prompty"
    path.write_text(f"---\n{front}\n---\n{body}", encoding="utf-8")
    return prompty.imported(path).text()


def of_flow(folder: Path, nodes: str, more: str = "") -> str:
    path = folder / "flow.dag.yaml"
    path.write_text(f"{more}\ninputs: {{q: {{type: string}}, t: {{type: double}}}}\nnodes:\n{nodes}", encoding="utf-8")
    (folder / "p.jinja2").write_text("user:\n{{q}}\n", encoding="utf-8")
    return promptflow.imported(path, folder).text()


def node(path: str, inputs: str = "") -> str:
    return f"- {{name: n, type: llm, source: {{path: {json.dumps(path)}}}, inputs: {{q: '${{inputs.q}}'{inputs}}}}}\n"


@pytest.mark.parametrize("value", ["!!bool maybe", "!!timestamp soon", "!!int ''", "!!float ''"])
def test_a_value_that_does_not_fit_its_tag_is_wrong_usage(value: str) -> None:
    with pytest.raises(UsageError, match="does not fit its tag"):
        read_yaml(f"a: {value}", "a file")


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ('base: "a\\0b"', "`base: a?b`, which cannot be read"),
        ("model: {id: !!binary aGVsbG8=}", "which the file names as"),
    ],
)
def test_what_is_no_path_and_no_name_is_told(tmp_path: Path, front: str, said: str) -> None:
    assert said in of_prompty(tmp_path, front)


@pytest.mark.parametrize(
    ("front", "said"),
    [
        (f"environment: {{OPENAI_API_KEY: {SECRET}}}", '"OPENAI_API_KEY": "***"'),
        (f"metadata: [{SECRET}]", '["***"]'),
        (f"model: {{parameters: {{api_key: {SECRET}}}}}", "the parameter `api_key`"),
        (f"model: {{parameters: {{extra_headers: {{Authorization: Bearer {SECRET}}}}}}}", "`extra_headers`"),
        (f"model: {{configuration: {{azure_endpoint: 'https://me:{SECRET}@host/'}}}}", "which holds a secret"),
    ],
)
def test_no_secret_of_a_prompty_file_is_copied(tmp_path: Path, front: str, said: str) -> None:
    made = of_prompty(tmp_path, front)
    assert said in made
    assert SECRET not in made


def test_a_parameter_that_only_sounds_like_a_secret_is_kept(tmp_path: Path) -> None:
    made = of_prompty(tmp_path, "model: {parameters: {max_tokens: '2048'}}")
    assert "max_tokens: 2048" in made


def test_no_secret_of_a_flow_is_copied(tmp_path: Path) -> None:
    made = of_flow(tmp_path, node("p.jinja2"), f"environment_variables: {{API_KEY: {SECRET}}}")
    assert '{"API_KEY": "***"}' in made
    assert SECRET not in made


def test_a_file_outside_of_the_flow_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret of {{q}}", encoding="utf-8")
    folder = tmp_path / "flow"
    folder.mkdir()
    for path in (str(tmp_path / "secret.txt"), "../secret.txt", "x" * 300, "a\0b"):
        made = of_flow(folder, node(path))
        assert "there is no file for its source" in made
        assert "the secret of" not in made


def test_a_flow_names_what_its_steps_lack(tmp_path: Path) -> None:
    made = of_flow(tmp_path, node("p.jinja2") + node("p.jinja2", ", temperature: '${inputs.t}'"))
    assert "all but the last of the 2 nodes whose name becomes `n`" in made
    assert "the parameter `temperature: ${inputs.t}` of `n`" in made
    assert "params:" not in made


def test_equal_names_of_saved_predictors_make_modules_of_their_own(tmp_path: Path) -> None:
    fields = [{"prefix": "Q:", "description": "${q}"}, {"prefix": "A:", "description": "${a}"}]
    one, other = ({"signature": {"instructions": words, "fields": fields}} for words in ("First.", "Second."))
    path = tmp_path / "saved.json"
    for names in (("a.b", "a_b"), ("answer_predict", "answer.predict")):
        path.write_text(json.dumps(dict(zip(names, (one, other), strict=True))), encoding="utf-8")
        modules = dspy.imported(path, tmp_path).program["modules"]
        assert {module["instructions"] for module in modules.values()} == {"First.", "Second."}


CLASS = """import dspy
class Inner(dspy.Module):
    def __init__(self):
        self.ask = dspy.Predict("q -> a")
    def forward(self, q):
        return self.ask(q=q).a
class P(dspy.Module):
    def __init__(self):
        self.inner = Inner()
        self.ask = dspy.Predict("q -> a")
    def forward(self, q):
"""


KEYS = {
    r'password = "hid\\den\\tkey"': "hid",
    'api_key = "hidden" "andmore"': "hidden",
    'token = """hidden\n  andmore"""': "hidden",
    'secret = "hidden" + suffix()': "hidden",
    'secret = f"hidden{suffix()}"': "hidden",
    f'words = "Bearer {SECRET}"': SECRET,
}


@pytest.mark.parametrize("written", KEYS)
def test_no_key_in_python_is_copied_however_it_is_written(tmp_path: Path, written: str) -> None:
    path = tmp_path / "p.py"
    name, _, value = written.partition(" = ")
    inside = f"        helper(api_key={value})\n        return self.ask(q={name})\n"
    path.write_text(written + "\n" + CLASS + inside, encoding="utf-8")
    made = dspy.imported(path, tmp_path).text()
    assert KEYS[written] not in made
    assert "***" in made and "helper(" in made


@pytest.mark.parametrize("doubled", ['q = f"{q}{q}"', "q = [q, q]", "q = dspy.Prediction(a=q, b=q)", "q = [*q, *q]"])
def test_what_a_loop_doubles_ends(tmp_path: Path, doubled: str) -> None:
    path = tmp_path / "p.py"
    loops = f"        for i in range(10):\n            for j in range(10):\n                {doubled}\n"
    path.write_text(CLASS + loops + "        return self.ask(q=q)\n", encoding="utf-8")
    assert len(dspy.imported(path, tmp_path).text()) < 50_000


def test_classes_within_each_other_make_no_endless_type(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    fields = [f"    f{place}: " for place in range(12)]
    classes = [f"class C{level}:\n" + f"C{level + 1}\n".join([*fields, ""]) for level in range(8)]
    signature = "class S(dspy.Signature):\n    q: C0 = dspy.InputField()\n    a: str = dspy.OutputField()\n"
    path.write_text("\n".join(["import dspy", *classes, "class C8: x: str", signature, "ask = dspy.Predict(S)"]))
    made = dspy.imported(path, tmp_path).text()
    assert len(made) < 100_000
    assert "in a type of more than 500 classes: it is taken as json" in made


def test_no_turn_of_a_long_loop_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    loop = f"        for i, x in enumerate({list('abcdefghijklm')}):\n            q = q + x\n"
    path.write_text(CLASS + loop + "        return self.ask(q=q)\n", encoding="utf-8")
    assert "it has no step" in dspy.imported(path, tmp_path).text()


def test_a_note_on_outputs_names_the_line_of_the_outer_return(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text(CLASS + "        return self.inner(q=q)\n", encoding="utf-8")
    assert "line 12: `return self.inner(q=q)`" in dspy.imported(path, tmp_path).text()


@pytest.mark.parametrize(
    "template",
    ['{{ "x" * 90000 * 90000 }}', "{{ [1] * 90000 * 90000 }}", '{{ "%9000000d" % 1 }}', '{{ "x" | center(9000000) }}'],
)
def test_a_template_cannot_fill_the_memory(template: str) -> None:
    with pytest.raises(NotRendered, match="too large"):
        rendered(template, {}, trims=False)
    assert rendered('{{ "%s%%" % 100000000 }}{{ 100000000 | tojson }}', {}, trims=False) == "100000000%100000000"
    # Nothing of it is computed to find its variables either.
    assert split(f"user:\n{template}{{{{ q }}}}").variables == {"q"}


def test_a_number_with_thousands_of_digits_is_no_template(tmp_path: Path) -> None:
    made = of_prompty(tmp_path, "name: a", f"user:\n{{{{ {'9' * 5000} }}}}{{{{ q }}}}\n")
    assert "a template that cannot be read as Jinja" in made


def test_a_value_that_is_compared_with_a_fraction_is_a_number() -> None:
    used = uses("{% if a > 0.5 %}{% endif %}{% if b > 5 %}{% endif %}{% if c == true %}{% endif %}")
    assert {name: str(use.type()) for name, use in used.items()} == {"a": "float", "b": "int", "c": "str"}
