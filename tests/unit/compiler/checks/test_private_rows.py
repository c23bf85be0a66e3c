"""Findings on rows whose private values do not fit: they name the row, and do not quote the value."""

from pathlib import Path

import pytest

from lmprog.compiler import compile_file

SPEC = """
lmprog: 1
name: ages
inputs:
  age: {{{kind}{marked}}}
outputs:
  older: ${{{{ inputs.age }}}}
data:
  dev: {{path: rows.jsonl{column}}}
"""


@pytest.mark.parametrize("kind", ["type: int", "type: 'list[int]'", "enum: [young, old]"])
@pytest.mark.parametrize(
    ("marked", "column", "hidden"),
    [(", private: true", "", True), ("", ", private: [age]", True), ("", "", False)],
)
def test_a_private_value_that_does_not_fit_is_not_quoted(
    tmp_path: Path, kind: str, marked: str, column: str, hidden: bool
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"age": "Young secret"}\n')
    (tmp_path / "spec.yaml").write_text(SPEC.format(kind=kind, marked=marked, column=column))
    found = [each for each in compile_file(tmp_path / "spec.yaml").findings if each.code == "LMP601"]
    assert len(found) == 1 and "`age`" in found[0].message and "row 0" in found[0].message
    assert ("secret" in f"{found[0].message} {found[0].fix}") is not hidden
