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
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import lmprog.lms
from lmprog.compiler import compile_file
from lmprog.compiler.plan import Plan
from lmprog.lms.lm import Completion, Request
from lmprog.lms.making import make_lm
from lmprog.runtime.program import Program, Resources
from lmprog.scoring.evaluation import aevaluate
from tests.functional import random_programs

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


def program_of(plan: Plan) -> Program:
    """Return the program of a plan; `load` would compile the file again."""
    return Program(plan, {id: make_lm(lm) for id, lm in plan.lms.items()}, lambda change: plan, Resources())


def row_of(program: Program, secret: str, label: str) -> dict[str, Any]:
    """Return a row for the program in which what is not private is the same for all secrets."""
    plan = program.plan
    if plan.data and "gold" not in plan.data["dev"].private:
        label = "public"
    return random_programs.rows(secret if plan.inputs["secret"].private else "plain", label)[0]


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
        if request.key[:1] == ("proposal",):
            return Completion(text=f"<instructions>{text}</instructions>")
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
    random_programs.SENT.clear()
    result = await program.run(program.inputs_of(rows[0]))
    if "judged" in program.plan.metrics:
        await aevaluate(program, rows, "judged")
    return sorted([*seen, *(f"send {words(text)}" for text in random_programs.SENT)]), result.error is not None


def optimized(path: Path, plan: Plan, folder: Path, seen: Seen) -> Seen:
    """Return what who is not trusted sees of the program's optimization, and the demos of the overlay.

    With a reason under `optimize.declassify` the overlay may hold private rows, and what trusted LMs make of them may be
    seen; what an untrusted LM is shown as demos may not.
    """
    seen.clear()
    random_programs.SENT.clear()
    shutil.rmtree(folder, ignore_errors=True)
    tuned = lmprog.optimize(path, run_dir=folder, out=folder.with_suffix(".yaml"))
    assert plan.optimize is not None
    if plan.optimize.declassify:
        demos = all(
            parts == {"demos"} and not plan.lms[plan.modules[id].lm].trusted for id, parts in plan.optimize.tune.items()
        )
        return list(seen) if demos else []
    modules = yaml.safe_load(tuned.overlay.read_text()).get("modules") or {}
    return [*seen, *random_programs.SENT, *(json.dumps(module.get("demos")) for module in modules.values())]


def test_the_secret_stays_where_it_may_be(tmp_path: Path, seen: Seen) -> None:
    counts = {"refused": 0, "warned": 0, "silent": 0, "broken": 0, "optimized": 0}
    leaks = []
    began = time.process_time()
    for seed in range(FIRST, FIRST + PROGRAMS):
        # All in one folder: nothing is imported twice, and little is left on disk.
        random_programs.write_rows(tmp_path, *SECRETS[0])
        path = random_programs.write(tmp_path, seed)
        found = compile_file(path)
        codes = {(finding.code, finding.severity) for finding in found.findings}
        trust = {severity for code, severity in codes if code in ("LMP401", "LMP402", "LMP403")}
        if found.plan is None:
            counts["refused" if "error" in trust else "broken"] += 1
            continue
        program = program_of(found.plan)
        first, failed = asyncio.run(observed(program, [row_of(program, *SECRETS[0])], seen))
        written: Seen = []
        if program.plan.optimize is not None:
            counts["optimized"] += 1
            written = optimized(path, program.plan, tmp_path / "run", seen)
        if any(MARK.search(text) for text in (*first, *written)):
            leaks.append(f"{seed}: the secret is sent, and no error says so")
        if trust:
            counts["warned"] += 1
            continue
        counts["silent"] += 1
        second, fails = asyncio.run(observed(program, [row_of(program, *SECRETS[1])], seen))
        # Whether a whole run fails is not looked at (docs/trust.md): what follows is then not sent.
        if first != second and failed == fails:
            leaks.append(f"{seed}: what is sent follows from the secret, and no finding says so")
    print(counts, f"{time.process_time() - began:.0f} s of processor time")
    assert not leaks, "\n".join(leaks[:20])
    # Else the test would say nothing.
    assert counts["silent"] > PROGRAMS / 10 and counts["refused"] > PROGRAMS / 10, counts
    assert counts["broken"] < PROGRAMS / 10 and counts["optimized"] > PROGRAMS / 100, counts
