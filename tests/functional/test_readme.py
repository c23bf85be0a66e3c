"""What the README shows is what runs: its program, and its quick commands as they stand there.

The optimization that its first command runs is in test_optimize.py; the second command is how these tests are called.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmprog.compiler import compile_file

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
QUICK = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith(".venv/bin/lmprog") and "tuned" not in line and "serve" not in line
]


def test_the_program_on_the_first_screen_is_the_quickstart(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "specs" / "quickstart", tmp_path / "quickstart")
    (tmp_path / "shown.yaml").write_text(README.split("```yaml\n")[1].split("```")[0])
    shown, kept = compile_file(tmp_path / "shown.yaml"), compile_file(ROOT / "specs" / "quickstart.yaml")
    assert shown.findings == kept.findings == ()
    assert shown.plan is not None and kept.plan is not None
    assert shown.plan.digest == kept.plan.digest
    assert shown.plan.optimize is not None and kept.plan.optimize is not None
    assert list(map(vars, shown.plan.optimize.stages)) == list(map(vars, kept.plan.optimize.stages))


def test_there_are_quick_commands() -> None:
    assert {line.split()[1] for line in QUICK} >= {"check", "render", "run", "optimize"}


@pytest.mark.parametrize("line", QUICK)
def test_a_quick_command_runs(line: str) -> None:
    command = shlex.split(line)
    command[0] = str(Path(sys.executable).with_name("lmprog"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
