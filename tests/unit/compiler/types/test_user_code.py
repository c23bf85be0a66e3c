"""User code: imported once, each file by itself, never where it must not be; its failures are findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.types import pydantic_models
from lmprog.compiler.types.lattice import INT, STR, UNKNOWN, ListOf, Object
from lmprog.compiler.types.python_reference import ImportFailed, PythonReference, load, reference
from lmprog.compiler.types.signatures import signature

SPEC = """\
lmprog: 1
name: desk
inputs: {text: str}
tools: {shout: {python: ./tools.py:shout, result: loud}}
steps: {one: {tool: shout, with: {text: "${{ inputs.text }}"}}}
outputs: {loud: "${{ steps.one.loud }}"}
"""


def written(folder: Path, code: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tools.py").write_text(code)
    path = folder / "spec.yaml"
    path.write_text(SPEC)
    return path


def messages(path: Path, imports: bool = True) -> list[tuple[str, str]]:
    return [(finding.code, finding.message) for finding in compile_file(path, imports=imports).findings]


def test_no_import_runs_nothing_and_still_knows_the_signature(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').write('x')\n\ndef shout(txt: str, times: int = 1) -> str:\n    return txt\n"
    path = written(tmp_path, code)
    assert messages(path, imports=False) == [("LMP604", "step `one`: tool `shout` takes no argument `text`")]
    assert not marker.exists()
    assert messages(path) == messages(path, imports=False)
    assert marker.exists()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def shuot(text: str) -> str: ...\n", "there is no `shout` in tools.py; did you mean `shuot`?"),
        ("def shout(text: str) -> str\n", "cannot import tools.py: line 1: expected ':'"),
        ("import nothing_that_exists\n", "cannot import tools.py: line 1: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "cannot import tools.py: line 1: SystemExit: 3"),
        ("shout = 3\n", "`shout` is no function"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, code: str, said: str) -> None:
    ((code_found, message),) = messages(written(tmp_path, code))
    assert code_found == "LMP103"
    assert said in message


def test_what_user_code_prints_stays_off_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert messages(written(tmp_path, "print('hello')\n\ndef shout(text: str) -> str:\n    return text\n")) == []
    assert capsys.readouterr().out == ""


def test_two_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        written(tmp_path / name, f"def shout(text: str) -> str:\n    return '{name}' + text\n")
        found.append(load(reference("./tools.py:shout", tmp_path / name)))
    assert [function("!") for function in found] == ["a!", "b!"]


def test_packages() -> None:
    assert load(PythonReference("json:dumps", None, "json", "dumps"))([1]) == "[1]"
    with pytest.raises(ImportFailed, match="cannot import nothing_here"):
        load(PythonReference("nothing_here:f", None, "nothing_here", "f"))


def test_a_file_beside_the_spec_is_not_a_module_and_the_message_says_how_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "no_such_models.py").write_text("class Invoice: ...\n")
    with pytest.raises(ImportFailed, match=r"write \./no_such_models\.py:Invoice for the file"):
        load(reference("no_such_models:Invoice", tmp_path))
    assert load(reference("./no_such_models.py:Invoice", tmp_path)).__name__ == "Invoice"


ANNOTATIONS = """\
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict
from pydantic import BaseModel, RootModel, field_validator
if TYPE_CHECKING:
    from elsewhere import Strange

@dataclass
class Unresolved:
    x: Strange

class UnresolvedToo(TypedDict):
    x: Strange

@dataclass
class Point:
    x: int

class Pair(BaseModel):
    pair: tuple[int, str]
    same: tuple[int, int]
    marked: list[Annotated[int, ["of no hash"]]] = []

class Names(RootModel[list[str]]): ...

class Fails(BaseModel):
    x: str
    @field_validator("x")
    @classmethod
    def strange(cls, value: str) -> str:
        return {}[value]

def shout(a: Unresolved, b: UnresolvedToo, c: Point, d: Pair, e: Names, f: tuple[int, ...], g: tuple[int, str]) -> str: ...
"""


def test_each_annotation_is_a_type_or_unknown(tmp_path: Path) -> None:
    written(tmp_path, ANNOTATIONS)
    found = signature(reference("./tools.py:shout", tmp_path), True)
    assert found is not None
    kinds = {name: field.type for name, field in found.parameters.items()}
    pair = (("pair", ListOf(UNKNOWN)), ("same", ListOf(INT)), ("marked", ListOf(INT)))
    assert kinds == {
        **{"a": UNKNOWN, "b": UNKNOWN, "c": Object((("x", INT),)), "d": Object(pair, source="Pair")},
        **{"e": ListOf(STR), "f": ListOf(INT), "g": ListOf(UNKNOWN)},
    }


def test_a_model_of_the_user_refuses_in_words_whatever_it_raises(tmp_path: Path) -> None:
    written(tmp_path, ANNOTATIONS)
    fails = reference("./tools.py:Fails", tmp_path)
    assert pydantic_models.validated(fails, {"x": "b"}) == ({"x": "b"}, "KeyError: 'b'")
    assert pydantic_models.aliased(fails, {"x": "b"}) == {"x": "b"}


def test_a_root_model_is_no_type(tmp_path: Path) -> None:
    path = written(tmp_path, ANNOTATIONS)
    path.write_text(SPEC.replace("{text: str}", '{text: "./tools.py:Names"}'))
    found = compile_file(path).findings
    assert ("LMP101", "`./tools.py:Names` is a root model of pydantic, whose values have no fields") in [
        (finding.code, finding.message) for finding in found
    ]


def test_a_model_without_a_json_schema_is_no_type(tmp_path: Path) -> None:
    path = written(tmp_path, f"{ANNOTATIONS}\nclass Calls(BaseModel):\n    f: type | None = None\n")
    path.write_text(SPEC.replace("{text: str}", '{text: "./tools.py:Calls"}'))
    said = [finding.message for finding in compile_file(path).findings if finding.code == "LMP101"]
    assert said[0].startswith("`./tools.py:Calls` has a field that JSON has no type for: Cannot generate a JsonSchema")


@pytest.mark.parametrize("code", ["x = " + "-" * 100_000 + "1", "def shout(text: '" + "-" * 100_000 + "1'): ..."])
def test_code_that_is_nested_too_deeply_is_not_read(tmp_path: Path, code: str) -> None:
    for found, _ in messages(written(tmp_path, f"{code}\n"), imports=False):
        assert found in ("LMP103", "LMP604")
