"""The cases of public bug reports in ../shared/cases/replies: each prints what its expected.txt says, here as patterns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmprog.cache_folder import cache_root

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT.parent / "shared" / "cases" / "replies"
CASES = sorted(path.parent.name for path in FOLDER.glob("*/run.sh"))
NOT_YET: dict[str, str] = {}
"""Cases whose kind is not mended yet, by number, with what is wrong."""
ONE_REQUEST = r"1 requests, gaps \[\]"
WANTED: dict[str, tuple[str, ...]] = {
    "01": ("^0 of 6 wrong",),
    "03": ("^0 of 9 wrong",),
    "04": ("^0 of 12 wrong",),
    "05": ("^0 of 8 wrong",),
    "07": ("^0 of 4 wrong",),
    "09": ("^0 of 8 wrong",),
    "10": ("content filter withheld the reply", r"request 0 (?!.*request 1)"),
    "12": (r"write params: \{max_completion_tokens: 50\}", r"status 3.*status 3.*status 0"),
    "13": (rf"-- day.*86400.*{ONE_REQUEST}.*-- quota.*{ONE_REQUEST}",),
    "14": (
        "-- eof.*2 requests.*-- done.*1 requests.*-- error.*2 requests.*-- odd.*1 requests.*-- lastline.*1 requests",
    ),
    "16": (r'tool "noon"[^\n]* c1\n.*tool "3"[^\n]* c2\n.*c3\n.*tool "noon"[^\n]* c6\n.*tool "5"[^\n]* c8', "status 0"),
    "17": ("U\\+2011", "the proxy http://127.0.0.1:9 did not pass", "only http proxies are supported"),
    "19": ("script: .* for 8 rows", "json: .* for 8 rows"),
    "25": (r"gather 50", r"pickle result \{"),
    "26": ("it fails on every row",),
    "29": ("was begun from something else.*status 2", "going on with the rest, and with 1 that failed"),
    "30": (r"== badyaml\n.*not YAML",),
    "31": (r"special ones: \[(?:\d, ){3,4}\d\]",),
    "32": ('"l": "found shoes"', "find: found bad"),
    "33": (
        "same 'emoji",
        r"RAISED 'half [^\n]*SpecError[^\n]*half of a surrogate pair, U\+D83D[^\n]*\n.*-- through a file",
    ),
}
UNWANTED: dict[str, tuple[str, ...]] = {
    "16": (r"\('', ", r"'arguments': ''"),
    "30": (": error: ",),
    "32": ("input_value",),
    "33": ("DIFFERENT", "RAISED (?!'half)"),
}

pytestmark = pytest.mark.skipif(not CASES, reason="the cases are not here: ../shared/cases/replies beside the project")


@pytest.mark.parametrize("case", CASES)
def test_a_case_prints_what_is_right(case: str, request: pytest.FixtureRequest) -> None:
    number = case[:2]
    if number in NOT_YET:
        request.applymarker(pytest.mark.xfail(reason=NOT_YET[number], strict=True))
    environment = {
        **os.environ,
        "LMPROG": str(Path(sys.executable).with_name("lmprog")),
        "PY": sys.executable,
        "OMP_NUM_THREADS": "1",
        "KEPT_CACHE": str(cache_root()),
    }
    run = subprocess.run(
        ["bash", str(FOLDER / case / "run.sh")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=300,
    )
    said = run.stdout
    for pattern in WANTED.get(number, ()):
        assert re.search(pattern, said, re.DOTALL | re.MULTILINE), said
    # The scripted server prints a traceback where a client goes away, as in 25.
    for pattern in (*(("Traceback",) if number != "25" else ()), *UNWANTED.get(number, ())):
        assert not re.search(pattern, said), said
