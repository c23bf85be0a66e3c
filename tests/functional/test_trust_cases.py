"""The small specs of `../shared/cases/check` about trust get the findings that are right for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CASES = Path(__file__).parents[3] / "shared/cases/check"
TABLE = CASES / "trust/expected.tsv"
OPTIONS = {"trusted_override.yaml": ["--lm", "local=openai/gpt-4.1-mini"]}
LATER: set[str] = set()

pytestmark = pytest.mark.skipif(not TABLE.is_file(), reason=f"the cases are not here: {CASES}")


def expected() -> list[tuple[str, str, str]]:
    """For each spec its code, and whether that is a warning or an error."""
    found = []
    for line in TABLE.read_text().splitlines() if TABLE.is_file() else ():
        spec, _, said = line.partition("\t")
        codes = re.findall(r"\b\d{3}\b", said)
        warned = "warning" in said or codes[-1] == "404"
        found.append((spec, f"LMP{codes[-1]}", "warning" if warned else "error"))
    return found


@pytest.mark.parametrize(("spec", "code", "severity"), expected())
def test_the_right_code(cli, spec: str, code: str, severity: str) -> None:
    if spec in LATER:
        pytest.skip("not done yet")
    status, out, _ = cli("check", CASES / "trust" / spec, *OPTIONS.get(spec, ()))
    assert re.search(rf"{severity}: .*\[{code}\]", out), out
    assert status == (1 if severity == "error" else 0)
    assert cli("check", CASES / "trust" / spec, *OPTIONS.get(spec, ()), "--strict")[0] == 1


@pytest.mark.parametrize("spec", ["leak_NESTED_1.yaml", "leak_NESTED_2.yaml"])
def test_what_the_fuzz_found(cli, spec: str) -> None:
    status, out, _ = cli("check", CASES / "ni" / spec)
    assert status == 1
    assert "[LMP401]" in out
