"""Programs of DSPy and what they become. The files of dspy_saved/ were written by DSPy itself, which no test but one needs.

That one runs the DSPy of the extra `peers`, or by the interpreter that LMPROG_DSPY_PYTHON names another one.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmprog.errors import UsageError
from lmprog.imports import dspy
from lmprog.imports.dspy_code import DspyFile
from lmprog.imports.dspy_signatures import written
from lmprog.imports.finished import finished
from lmprog.imports.program import Imported

SAVED = Path(__file__).parent / "dspy_saved"
PYTHON = os.environ.get("LMPROG_DSPY_PYTHON") or (sys.executable if importlib.util.find_spec("dspy") else "")
Write = Callable[..., Path]
HEAD = "import dspy\nfrom enum import Enum\nfrom pydantic import BaseModel\n"
CLASSES = """
class Kind(str, Enum):
    A = "a"
    B = "b c"
class Item(BaseModel):
    '''An item.'''
    name: str
    kind: Kind
class Order(Item):
    parts: list["Order"]
class Sum(dspy.Signature):
    '''Sum it up.'''
    text: str = dspy.InputField()
    short: str = dspy.OutputField(desc="in a word")
def find(query: str, k: int = 2) -> list[str]:
    return []
"""


@pytest.mark.parametrize(
    ("annotation", "kind", "said"),
    [
        ("str", "str", ""),
        ("float | None", "float?", ""),
        ("Optional[int]", "int?", ""),
        ("Union[int, float]", "float", ""),
        ("str | int", "json", "it is taken as json"),
        ("list[dict[str, Any]]", "list[json]", ""),
        ("List[List[int]]", "list[list[int]]", ""),
        ("list", "list[json]", ""),
        ("tuple[int, ...]", "list[int]", "it is a list"),
        ("Literal['x', 'y']", {"enum": ["x", "y"]}, ""),
        ("list[Literal['x', 'y z']]", "list[{enum: [x, y z]}]", ""),
        ("list[Literal['x,']]", "list[str]", ""),
        ("Literal[1, 2]", "int", "the values of"),
        ("Kind", {"enum": ["a", "b c"]}, ""),
        ("'Item'", "{name: str, kind: {enum: [a, b c]}}", ""),
        ("list[Order]", "list[{name: str, kind: {enum: [a, b c]}, parts: list[json]}]", ""),
        ("dspy.Image", "image", ""),
        ("dspy.History", "messages", "the form of dspy.History"),
        ("datetime.date", "str", "it is taken as str"),
        ("Annotated[int, 5]", "int", "beside the type"),
    ],
)
def test_types(write: Write, annotation: str, kind: Any, said: str) -> None:
    file = DspyFile(write(HEAD + CLASSES, "a.py"))
    assert written(file.signatures.type(ast.parse(annotation, mode="eval").body)) == kind
    assert [note for note in file.notes if said in note.text] if said else not file.notes


def imported(write: Write, code: str, **more: Any) -> Imported:
    path = write(HEAD + CLASSES + code, "a.py")
    return dspy.imported(path, path.parent, **more)


def forward(body: str, init: str = "") -> str:
    """Return a module class of two predictors with this `forward`."""
    made = "self.a = dspy.Predict('t -> o')\n        self.s = dspy.ChainOfThought(Sum)\n        self.n = 3"
    inner = "\n        ".join(body.splitlines())
    start = f"class M(dspy.Module):\n    def __init__(self):\n        {made}\n        {init or 'pass'}\n"
    return f"{start}    def forward(self, x: str, xs: list[str]):\n        {inner}\n"


STATEMENTS = """
return self.a(t=x)
  a(t=${{ inputs.x }}); o=${{ steps.a.o }}
p = self.a(t='hi') / return dspy.Prediction(y=p.o, n=len(xs))
  a(t=hi); y=${{ steps.a.o }}, n=${{ len(inputs.xs) }}
return self.a(t=self.s(text=x).short.strip())
  s(text=${{ inputs.x }}) a(t=${{ strip(steps.s.short) }}); o=${{ steps.a.o }}
y = f'{x}: {self.n}' / return self.a(t=y)
  a(t=${{ (inputs.x + ": " + str(3)) }}); o=${{ steps.a.o }}
for i in range(2): / ....x = self.a(t=x).o / return x
  a(t=${{ inputs.x }}) a_2(t=${{ steps.a.o }}); result=${{ steps.a_2.o }}
ys = find(x, k=1) / return self.a(t=', '.join([*ys, 'z']))
  find(query=${{ inputs.x }}, k=1) a(t=${{ join((steps.find.result + ["z"]), ", ") }}); o=${{ steps.a.o }}
return dspy.Prediction(ys=[self.a(t=y).o for y in xs])
  a(t=${{ item }}) for ${{ inputs.xs }}; ys=${{ steps.a.o }}
ys = [find(y, k=2) for y in xs] / return self.a(t=str(ys))
  find(query=${{ item }}, k=2) for ${{ inputs.xs }} a(t=${{ str(steps.find.result) }}); o=${{ steps.a.o }}
p, q = self.a(t=x), 1 / q += 1 / return dspy.Prediction(o=p.o, q=q)
  a(t=${{ inputs.x }}); o=${{ steps.a.o }}, q=${{ (1 + 1) }}
p = self.a(t=x) / if p.o == 'no': / ....p = self.a(t='again') / return p
  a(t=${{ inputs.x }}) a_2(t=again); o=${{ default(steps.a_2.o, steps.a.o) }}
y = json.loads(x) / return self.a(t=y)
  a(t=${{ inputs.y }}); o=${{ steps.a.o }}
while x: / ....x = x[1:] / return self.a(t=x)
  a(t=${{ inputs.x_2 }}); o=${{ steps.a.o }}
"""
"""The statements of a `forward`, and in the line below its steps with their arguments, and the outputs."""
CASES = list(zip(*[map(str.strip, STATEMENTS.strip().split("\n"))] * 2, strict=True))


@pytest.mark.parametrize(("body", "program"), CASES)
def test_statements_become_steps(write: Write, body: str, program: str) -> None:
    made = imported(write, forward(body.replace(" / ", "\n").replace("....", "    ")))
    steps = [
        f"{id}({', '.join(f'{name}={value}' for name, value in step['with'].items())})"
        + (f" for {step['foreach']}" if "foreach" in step else "")
        for id, step in made.program["steps"].items()
    ]
    outputs = ", ".join(f"{name}={value}" for name, value in made.program["outputs"].items())
    assert f"{' '.join(steps)}; {outputs}" == program


def test_an_input_whose_fields_are_read_is_an_object(write: Write, tmp_path: Path) -> None:
    code = forward("y = self.a(t=e.t + e.more.upper())\nreturn dspy.Prediction(n=e.n, o=y.o)").replace(
        "x: str, xs: list[str]", "e"
    )
    made = imported(write, code)
    assert made.program["inputs"] == {"e": "{t: str, more: str, n: str}"}
    assert not [one for one in finished(made, tmp_path / "e.yaml").findings if one.severity == "error"]


FOREIGN = [
    "while True: break", "try:\n    pass\nexcept Exception:\n    pass", "assert True", "del y", "raise ValueError", "import os",
    "global z", "y = lambda: 1", "y = open('f').read()", "print(1)", "y = yield_()", "def inner(): pass", "class Inner: pass",
    "match 1:\n    case _: pass", "y = {**{}}", "y = not_known.thing", "self.z = helper()", "y: int",
    "with open('f') as y: pass", "for y in helper(): pass", "y = 1 if helper() else 2", "y = helper()(1)",
    "y = [i for i in helper()]", "y = [helper()]", "y, w = 1, helper()",
    "y = {1, 2}", "y = 3j", "y = b'b'", "if helper():\n    y = 1", "y = f'{helper()!r:>3}'", "async def f(): pass",
    "y = (yield)",
    "y = self.nothing(a=1)",
    "y = dspy.Embedder('m')",
]  # fmt: skip


@pytest.mark.parametrize("statement", FOREIGN)
def test_nothing_is_dropped_without_a_word(write: Write, statement: str) -> None:
    """Each statement that is no part of a program is named with its line, wherever it stands."""
    code = forward(f"{statement}\nreturn self.a(t=x)", "\n        ".join(statement.splitlines())) + statement + "\n"
    made = imported(write, code)
    lines = (HEAD + CLASSES + code).lstrip("\n").splitlines()
    places = [number for number, line in enumerate(lines, 1) if line.strip() == statement.splitlines()[0]]
    said = " ".join(note.text for note in made.notes)
    named = [number for number in places if f"line {number}:" in said or f"lines {number} to" in said]
    # An import is told by what is read from it, and plain values and functions at the top are only there to be used.
    silent = {places[-1]} if statement in ("import os", "y: int") else set()
    assert len(places) == 3 and {*places} - silent <= {*named}, said
    assert made.program["steps"]["a"] == {"module": "a", "with": {"t": "${{ inputs.x }}"}}


def test_a_key_behind_the_name_of_its_variable_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text('import os\nos.environ.setdefault("OPENAI_API_KEY", "quiet words")\n')
    file = DspyFile(path)
    assert file.source(file.tree.body[1]) == 'os.environ.setdefault("OPENAI_API_KEY", ***)'


@pytest.mark.parametrize(
    "code",
    [
        'd.get("keywords", "answer")',
        "cache_key = f\"{row['answer']}:{row['text']}\"",
        'style = "a task-oriented answer"',
    ],
)
def test_an_ordinary_word_is_no_key(tmp_path: Path, code: str) -> None:
    path = tmp_path / "a.py"
    path.write_text(f"{code}\n")
    assert not DspyFile(path).secrets


def test_loops_cannot_grow_beyond_bounds(write: Write) -> None:
    deep = "".join(f"{'    ' * depth}for i{depth} in range(10):\n" for depth in range(6)) + "    " * 6 + "x = x + x\n"
    with pytest.raises(UsageError, match="its loops stand for more than 2,000 statements"):
        imported(write, forward(deep + "return self.a(t=x)"))
    made = imported(write, forward("for i in range(10):\n    x = x + x + x + x\nreturn self.a(t=x)"))
    assert made.program["steps"]["a"]["with"] == {"t": "${{ inputs.x_2 }}"}
    assert imported(write, forward("for i in range(10 ** 30):\n    x = self.a(t=x).o\nreturn x")).notes


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = (", "is no Python that can be read"),
        ("x = 1", "holds no signature of DSPy"),
        ("a = " + "(" * 300 + ")" * 300, "is no Python that can be read"),
        ("a = " + "-" * 20_000 + "1", "is nested too deeply to read"),
        (f"s = dspy.Predict('a -> b: {'-' * 20_000}1')", "holds no signature of DSPy"),
        (
            "class A(B): pass\nclass B(A): pass\nclass C(dspy.Signature):\n    a: A = dspy.InputField()",
            "",
        ),
        ("class A(A, dspy.Signature): pass", ""),
        ("s = dspy.Signature('a -> b')\ns = s.with_instructions('c')\np = dspy.Predict(s)", ""),
    ],
)
def test_odd_files_end_well(write: Write, code: str, said: str) -> None:
    path = write("import dspy\n" + code, "a.py")
    if said:
        with pytest.raises(UsageError, match=said):
            dspy.imported(path, path.parent)
    else:
        assert dspy.imported(path, path.parent).text()


def test_a_saved_program_with_its_code_is_whole(tmp_path: Path) -> None:
    made = dspy.imported(SAVED / "desk.json", tmp_path, SAVED / "desk.py")
    done = finished(made, tmp_path / "desk.yaml")
    assert not [finding for finding in done.findings if finding.severity == "error"]
    modules = made.program["modules"]
    assert list(modules) == ["sort", "ask_0", "ask_1", "agent"]
    assert modules["ask_1"]["instructions"] == "Write what is still missing."
    assert modules["ask_1"]["demos"] == [{"letter": "a", "notes": ["b"], "reasoning": "c", "note": "d"}]
    assert modules["sort"]["demos"] == [
        {"letter": "Two lamps!", "day": 3, "kind": "order", "parts": [{"name": "lamp", "pieces": 2}]}
    ]
    assert modules["agent"]["tools"] == ["stock"] and modules["agent"]["max_turns"] == 4
    lm = made.program["lms"][modules["sort"]["lm"]]
    assert lm == {"model": "openai/gpt-4.1-mini", "params": {"temperature": 0.3, "max_tokens": 100}}
    texts = [note.text for note in made.notes]
    assert "demo 2 of `sort`: it has no `day`" in texts
    assert any("the address http://x" in text for text in texts)
    assert "never written" not in made.text()


def test_a_saved_program_alone_says_what_it_does_not_know(tmp_path: Path) -> None:
    made = dspy.imported(SAVED / "desk.json", SAVED)
    done = finished(made, tmp_path / "desk.yaml")
    assert not done.findings
    texts = [note.text for note in made.notes]
    assert "of `sort`: which fields come out, which the file does not say: `parts` is taken as the only one" in texts
    assert "the code between the modules: each stands by itself; --code FILE.py reads it" in texts
    assert sum("--code FILE.py does" in text for text in texts) == 2
    assert list(made.program["modules"]["ask_1"]["outputs"]) == ["reasoning", "note"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pkl", "x", "is a pickle, which runs code"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[]", "holds no predictor of DSPy"),
        ("a.json", '{"lm": null, "metadata": {}}', "holds no predictor of DSPy"),
        ("a.json", "[" * 5000 + "]" * 5000, "nested too deeply|holds no predictor"),
        ("a.json", '{"p": {"signature": {"fields": "no"}, "demos": 3, "lm": 4}}', "holds no predictor"),
    ],
)
def test_files_that_hold_no_program_are_refused(write: Write, name: str, content: str, said: str) -> None:
    path = write(content, name)
    with pytest.raises(UsageError, match=said):
        dspy.imported(path, path.parent)


def test_one_class_of_several_is_chosen(write: Write) -> None:
    code = forward("return self.a(t=x)") + forward("return self.s(text=x)").replace("class M", "class N")
    assert list(imported(write, code).program["steps"]) == ["s"]
    assert list(imported(write, code, chosen="M").program["steps"]) == ["a"]
    with pytest.raises(UsageError, match="no module class 'O'; its module classes: M, N"):
        imported(write, code, chosen="O")


@pytest.mark.slow
@pytest.mark.skipif(
    not PYTHON, reason="needs DSPy, of the extra `peers`, or LMPROG_DSPY_PYTHON, an interpreter that has it"
)
def test_dspy_writes_the_file_that_is_kept_here(tmp_path: Path) -> None:
    subprocess.run([PYTHON, SAVED / "desk.py", tmp_path / "desk.json"], check=True, capture_output=True, timeout=300)
    new, kept = (json.loads((folder / "desk.json").read_text()) for folder in (tmp_path, SAVED))
    assert {**new, "metadata": 0} == {**kept, "metadata": 0}
    done = finished(dspy.imported(tmp_path / "desk.json", tmp_path, SAVED / "desk.py"), tmp_path / "desk.yaml")
    assert not [finding for finding in done.findings if finding.severity == "error"]
