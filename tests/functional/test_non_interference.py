"""Nothing of a private value reaches who is not trusted, in any program that check passes.

Random programs run on LMs that repeat what they read. With no error of check, no text of the secret is at an untrusted LM,
tool or judge. With no finding of 401 or 402 at all, warnings included, they see exactly the same for two different secrets.

LMPROG_FUZZ_PROGRAMS=10000 tries more programs than the default suite, LMPROG_FUZZ_SEED other ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import random_programs

import lmprog.lms
from lmprog.compiler import compile_file
from lmprog.lms.lm import Completion, Request
from lmprog.runtime.program import Program, load
from lmprog.scoring.evaluation import aevaluate

pytestmark = pytest.mark.slow

PROGRAMS = int(os.environ.get("LMPROG_FUZZ_PROGRAMS", "200"))
FIRST = int(os.environ.get("LMPROG_FUZZ_SEED", "0"))
SECRETS = (("zqhidden", "zqgold"), ("zqother of three words", "zqlabels here and there"))
"""A private input and a private label, twice; other texts of other lengths the second time."""
MARK = re.compile("zq", re.IGNORECASE)
Seen = list[str]


def words(value: Any) -> str:
    """The different words of a value in one line, so that repeating them does not make them more."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(sorted(set(re.findall(r"\w+", text)))) or "k"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What untrusted LMs were sent. Every LM of the process repeats what it reads, but `cleaner`, which always says `k`."""
    found: Seen = []

    async def complete(lm: Any, request: Request) -> Completion:
        text = words([message["content"] for message in request.messages])
        if lm.declared.model == random_programs.REMOTE:
            found.append(text)
        if lm.declared.model == random_programs.CLEANER:
            return Completion(text="k")
        if request.format == "json":
            return Completion(text=json.dumps({"one": text, "two": text}))
        if "'float'" in repr(request.output_type):
            return Completion(text="0.5")
        return Completion(text=text)

    monkeypatch.setattr(lmprog.lms.making._OnFirstUse, "complete", complete)
    return found


async def observed(program: Program, rows: list[dict[str, Any]], seen: Seen) -> tuple[Seen, bool]:
    """What who is not trusted sees of the program and its judges on the rows, and whether the run failed as a whole."""
    seen.clear()
    sent = []
    result = await program.run(program.inputs_of(rows[0]))
    sent += [f"{call.tool} {words(call.arguments)}" for call in result.tool_calls if call.tool == "send"]
    if "judged" in program.plan.metrics:
        await aevaluate(program, rows, "judged")
    return sorted([*seen, *sent]), result.error is not None


def test_the_secret_stays_where_it_may_be(tmp_path: Path, seen: Seen) -> None:
    counts = {"refused": 0, "warned": 0, "silent": 0, "broken": 0}
    leaks = []
    for seed in range(FIRST, FIRST + PROGRAMS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        random_programs.write_rows(folder, *SECRETS[0])
        path = random_programs.write(folder, seed)
        found = compile_file(path)
        codes = {(finding.code, finding.severity) for finding in found.findings}
        trust = {severity for code, severity in codes if code in ("LMP401", "LMP402", "LMP403")}
        if found.plan is None:
            counts["refused" if "error" in trust else "broken"] += 1
            continue
        program = load(path)
        given = [
            random_programs.rows(secret, label if "gold" in program.plan.data["dev"].private else "public")
            if program.plan.data
            else random_programs.rows(secret, label)
            for secret, label in SECRETS
        ]
        first, failed = asyncio.run(observed(program, given[0], seen))
        if any(MARK.search(text) for text in first):
            leaks.append(f"{path}: the secret is sent, and no error says so")
        if trust:
            counts["warned"] += 1
            continue
        counts["silent"] += 1
        second, fails = asyncio.run(observed(program, given[1], seen))
        # Whether a whole run fails is not looked at (docs/trust.md): what follows is then not sent.
        if first != second and failed == fails:
            leaks.append(f"{path}: what is sent follows from the secret, and no finding says so")
    assert not leaks, "\n".join(leaks[:20])
    # Else the test would say nothing.
    assert counts["silent"] > PROGRAMS / 10 and counts["refused"] > PROGRAMS / 10, counts
    assert counts["broken"] < PROGRAMS / 10, counts
