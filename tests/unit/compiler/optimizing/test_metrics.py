"""Metrics that read each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lmprog.compiler import compile_file


@pytest.mark.parametrize(
    ("values", "circles"),
    [
        ({"a": "metrics.b + 1", "b": "1.0"}, []),
        ({"a": "metrics.a"}, [("a", "a")]),
        ({"a": "metrics.b + metrics.c", "b": "1.0", "c": "metrics.a"}, [("a", "c", "a")]),
        ({"a": "metrics.b", "b": "metrics.c", "c": "metrics.b"}, [("b", "c", "b")]),
        ({"a": "metrics.b", "b": "metrics.a", "c": "metrics.d", "d": "metrics.c"}, [("a", "b", "a"), ("c", "d", "c")]),
    ],
)
def test_a_circle_of_metrics_is_found_behind_others(
    write: Callable[..., Path], values: dict[str, str], circles: list[tuple[str, ...]]
) -> None:
    metrics = "".join(f"  {id}: {{value: {value}}}\n" for id, value in values.items())
    spec = write('lmprog: 1\ninputs: {t: str}\noutputs: {o: "${{ inputs.t }}"}\nmetrics:\n' + metrics)
    findings = compile_file(spec).findings
    assert [finding.path for finding in findings if finding.code == "LMP207"] == circles
