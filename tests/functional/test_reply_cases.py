"""The cases of public bug reports in ../shared/cases/replies: each prints what its expected.txt says, here as patterns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmprog.state.cache_folder import cache_root

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
    "21": (
        r"array\.jsonl .*write each row of the list on a line of its own",
        *(
            rf"s-{name}\.yaml: m 100\.0%.* on {rows} rows"
            for name, rows in (
                ("big.csv", 1),
                ("blank.csv", 2),
                ("bom.csv", 2),
                ("bom.jsonl", 2),
                ("index.csv", 1),
                ("nul.csv", 1),
                ("numbers.csv", 2),
                ("quote.csv", 1),
                ("u2028.jsonl", 1),
            )
        ),
        r"cp1252\.csv: it is not UTF-8 text; save it as UTF-8",
        r"dupkey\.jsonl:1: this line is not JSON: the key 'text' stands twice",
        r"the column `text` of the test data is no str in 3 row\(s\): row 1: 5 is not",
        r"nan\.jsonl:1: this line is not JSON: NaN is no value of JSON; write null",
        r"pretty\.jsonl:1: .*write each row as one object on one line",
        r"rows\.json is no data file that can be read: write one JSON object a line",
        r"semicolon\.csv:1: the header is one field that holds ';'",
        r"utf16\.csv: it is UTF-16 text; save it as UTF-8",
        r"argument `w` of metric `m`: the data have no column `label`",
    ),
    "22": (
        *(
            rf"s-{name}\.yaml +check: 1 program: no findings.*?s-{name}\.yaml: m 100\.0%"
            for name in (
                "bytes",
                "date",
                "decimal",
                "dict",
                "duration",
                "map",
                "nan",
                "nested",
                "nulltext",
                "pandasindex",
                "plain",
                "ts",
            )
        ),
        r"use\.yaml +check: .*the column `when` of the test data is no str in 2 row\(s\): row 0: the datetime",
        r"usenan\.yaml +check: .*the column `score` of the test data is no float in 1 row\(s\): row 0: null",
    ),
    "23": (
        r"== t-fstring-braces.*\.yaml:13:18: error: .*doubled braces hold one value, and this is an object",
        r"== t-latex.*\.yaml:13:14: error: .*a comment that opens with \{# does not end",
        r"== t-multiline.*\.yaml:15:24: error: .*a hole that opens with \{\{ does not end",
        r"""== t-html.*<b>a \{\{ b \}\} \{% if %\} \{# c \} <i>&amp;</i> "q" \$\{\{ env\.HOME \}\}""",
        r'Reply as \{"label": "x", "meta": \{"a": \{"b": 1\}\}\}',
        r'\{"k": "é<b>", "n": 1\.0, "t": true, "z": null\} \["a", "b \\"c\\""\]',
        r"== t-raw.*\{\{ not a value \}\} \{# nor this a",
    ),
    "25": (
        *(2 * f"{form}.*" for form in ("call", "map", "acall", "gather 50", "evaluate 1", "threads 20", "to_thread")),
        r"pickle result \{",
    ),
    "26": (
        r"5 runs failed \(metric\).*'m' raised KeyError: 'gold' \(m\.py:2\)",
        r"row 2, 0\.00: .*not 'NoneType'.*row 3, 0\.00: .*gave nan, .*row 6, 0\.00: .*gave inf",
        "no row could be scored: the metric 'm' raised AttributeError.*it fails on every row",
    ),
    "27": (
        "y-bomcrlf.yaml:7:32: error: the enum of output of module `a`: `l` has `refund` twice",
        "y-colon.yaml:8:19: error: a text that holds a colon and a space needs quotes.*fix: write instructions: ",
        "y-docs.yaml:6:1: error: the file holds a second document",
        "y-dup.yaml:9:5: error: the key `instructions` stands twice; it was first given in line 8.*fix: remove one",
        'y-emoji.*has "A" and "a", which differ in case.*has an empty value.*has the value "a, b", and the prompt lists',
        "y-empty.yaml:1:1: error: a program is a mapping.*fix: write `lmprog: 1`",
        "y-fold.yaml:9:13: warning: `>` makes one line of this text.*fix: write . for >",
        "y-list.yaml:1:1: error: a program is a mapping.*fix: write `lmprog: 1`",
        r"y-nbsp.yaml:8:4: error: U\+00A0 \(no-break space\).*fix: write a space",
        'y-norway.yaml:5:61: warning: `yes` without quotes .*fix: write "yes"',
        'y-percent.yaml:8:19: error: a text that begins with % needs quotes.*fix: write "%s is the text"',
        'y-smart.yaml:3:18: warning: curly quotes are letters of the text.*fix: write "openai/x"',
        "y-tab.yaml:6:1: error: a tab stands where YAML takes spaces.*fix: write spaces",
        "y-template.yaml:9:13: error: a key must be a word; a template that starts with .*fix: quote it",
    ),
    "36": (r"1 replies could not be read.*status 0\n.*the program as written is kept: none of 1 dev rows.*status 0",),
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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES, reason="the cases are not here: ../shared/cases/replies beside the project"),
]


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
