"""No line of a file that is only appended to can break its reader; what is passed over is counted, with its fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.errors import UsageError
from lmprog.state.json_lines import PassedOver, as_line, read_objects, versioned_line

GOOD = [{"event": "note", "text": f"é{number}\ud800"} for number in range(4)]
FAULTS = {
    b"\n": "blank",
    b"  \t\n": "blank",
    b"garbage\n": "no JSON",
    b"\0\0\0\0\n": "no JSON",
    b"\0\0" + as_line({"event": "note"}): "no JSON",
    b'{"event": \n': "no JSON",
    b"[" * 100_000 + b"\n": "no JSON",
    b"\xff\xfe\n": "no JSON",
    b"9" * 5000 + b"\n": "no JSON",
    b"[1,2]\n": "no JSON object",
    b"null\n": "no JSON object",
    b'"text"\n': "no JSON object",
}


@pytest.mark.parametrize("fault", FAULTS, ids=[repr(fault[:12]) for fault in FAULTS])
@pytest.mark.parametrize("place", range(5))
def test_a_line_that_holds_nothing_costs_only_itself(tmp_path: Path, fault: bytes, place: int) -> None:
    lines = [versioned_line(value) for value in GOOD]
    lines.insert(place, fault)
    path, passed_over = tmp_path / "file.jsonl", PassedOver()
    path.write_bytes(b"".join(lines))
    assert list(read_objects(path, passed_over)) == GOOD
    assert (passed_over.numbers, dict(passed_over.faults)) == ([place + 1], {FAULTS[fault]: 1})
    assert str(passed_over) == f"1 line could not be read and is left out: {place + 1} (1 {FAULTS[fault]})"


def test_a_torn_end_a_second_copy_and_a_strange_form_are_counted(tmp_path: Path) -> None:
    path, passed_over = tmp_path / "file.jsonl", PassedOver()
    one, two = as_line({"a": 1}), as_line({"a": 2})
    path.write_bytes(one + two + one + as_line({"b": 1}) + b'{"a": 3}')
    assert list(read_objects(path, passed_over, lambda value: "a" in value)) == [{"a": 1}, {"a": 2}]
    assert str(passed_over) == (
        "3 lines could not be read and are left out: 3, 4, 5 (1 duplicated, 1 of no known form, 1 torn)"
    )


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_at_any_place_escape(tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int) -> None:
    path = tmp_path_factory.mktemp("lines") / "file.jsonl"
    whole = b"".join(as_line(value) for value in GOOD)
    path.write_bytes(whole[:at] + junk + whole[at:])
    for value in read_objects(path):
        assert isinstance(value, dict)


def test_a_later_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps({"version": 2, "a": 1}) + "\n")
    with pytest.raises(UsageError, match=r"was written by another version of lmprog \(format 2, this one reads 1\)"):
        list(read_objects(path))
