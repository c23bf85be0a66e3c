"""One slip of the pen is one finding, or one for each place that names what was misspelt: never what only follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lmprog.compiler import compile_file

SPECS = Path(__file__).parents[3] / "specs"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["papillon", "guards", "desk"])
def test_slips(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(SPECS / "data")
    folder = tmp_path / "good"
    folder.mkdir()
    source = (SPECS / "good" / f"{name}.yaml").read_text()
    tried = several = 0
    for word in re.finditer(r"[A-Za-z_]{4,}", source):
        slip = word[0][0] + word[0][2] + word[0][1] + word[0][3:]
        if slip == word[0]:
            continue
        path = folder / f"{word.start()}.yaml"
        path.write_text(source[: word.start()] + slip + source[word.end() :])
        findings = compile_file(path).findings
        tried += 1
        several += (
            len({(finding.code, finding.message.split("`")[-2]) for finding in findings if "`" in finding.message}) > 1
        )
    assert several <= tried * 0.08
