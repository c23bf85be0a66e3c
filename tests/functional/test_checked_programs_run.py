"""What passes `check` never fails at run time with a name or a type: mutated programs run on LMs and tools that answer with
values of the declared types.

`LMPROG_MUTATIONS=20000` sets how many mutated specs are tried.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
from pathlib import Path

import pytest
import yaml

from lmprog.compiler import compile_file
from lmprog.lms.fake import FakeLM, placeholder
from lmprog.runtime.program import Program
from lmprog.runtime.resources import Resources
from lmprog.tools.making import fake_tool

pytestmark = pytest.mark.slow

SPECS = Path(__file__).resolve().parents[1] / "specs"
COUNT = int(os.environ.get("LMPROG_MUTATIONS", "1200"))


def mutations():
    """The module that mutates specs for the compiler's own test."""
    path = Path(__file__).resolve().parents[1] / "unit" / "compiler" / "test_mutations.py"
    spec = importlib.util.spec_from_file_location("mutations", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tool is called and no LM is asked, in sub-programs neither."""
    monkeypatch.setattr("lmprog.runtime.resources.make_tool", lambda tool, connections: fake_tool(tool))
    monkeypatch.setattr("lmprog.lms.making.make_lm", lambda declared: FakeLM())


@pytest.mark.parametrize("part", range(4))
def test_a_mutated_program_that_passes_check_runs(part: int, tmp_path: Path, faked: None) -> None:
    mutate = mutations()
    folder = tmp_path / "specs"
    folder.mkdir()
    (tmp_path / "data").symlink_to(SPECS / "data")
    (tmp_path / "good").symlink_to(SPECS / "good")
    sources = [path.read_text() for path in sorted((SPECS / "good").glob("*.yaml"))]
    rng = random.Random(part)
    ran = 0
    for number in range(COUNT // 4):
        source = rng.choice(sources)
        if number < len(sources):
            text = sources[number]
        elif rng.random() < 0.7:
            text = mutate.mutate_text(source, rng)
        else:
            tree = yaml.safe_load(source)
            mutate.mutate_tree(tree, rng)
            text = yaml.safe_dump(tree, sort_keys=False)
        path = folder / "mutated.yaml"
        path.write_text(text, encoding="utf-8")
        compiled = compile_file(path)
        plan = compiled.plan
        if plan is None:
            continue
        ran += 1
        program = Program(plan, {id: FakeLM() for id in plan.lms}, lambda change: plan, Resources(dry_run=True))  # noqa: B023
        inputs = {name: placeholder(name, field.type) for name, field in plan.inputs.items()}
        result = asyncio.run(program.run(inputs))
        warned = any(finding.code == "LMP208" for finding in compiled.findings)
        assert result.error is None or warned, f"{result.error} for:\n{text}"
    assert ran > COUNT // 4 * 0.05
