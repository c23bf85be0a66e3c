"""The page of `lmprog dev` for a row whose values do not fit."""

from pathlib import Path
from typing import Any

import pytest

from lmprog import load
from lmprog.playground.session import Snapshot
from lmprog.playground.view import Asked, View

SPEC = """
lmprog: 1
name: ages
inputs:
  age: {type: int, private: true}
outputs:
  older: ${{ inputs.age + 1 }}
data:
  dev: rows.jsonl
"""


class Rows:
    """The rows of a hub, which no check has read, so that their values may be of another type."""

    def rows(self, plan: Any, split: str) -> list[dict[str, Any]]:
        return [{"age": "secret-7"}]


@pytest.mark.parametrize(
    ("typed", "show_private", "quoted"),
    [({}, False, None), ({}, True, "secret-7"), ({"age": '"other"'}, False, "other")],
)
def test_a_private_value_that_does_not_fit_is_not_quoted(
    tmp_path: Path, typed: dict[str, str], show_private: bool, quoted: str | None
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"age": 7}\n')
    (tmp_path / "spec.yaml").write_text(SPEC)
    snapshot = Snapshot(program=load(tmp_path / "spec.yaml"))
    view = View("spec.yaml", snapshot, Rows(), None, Asked(typed=typed), show_private=show_private)  # type: ignore[arg-type]
    wrong = view.inputs[1]
    assert wrong is not None and "age" in wrong and "int" in wrong
    assert "secret-7" not in wrong if quoted is None else quoted in wrong
