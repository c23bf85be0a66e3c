"""How long the compiler takes: the whole process for a small program, and one file of 1,000 and 2,000 steps.

Run `python benchmarks/check.py`; it prints processor time. Targets: a small program at most 2 times
`import pydantic, jinja2, yaml`; 1,000 steps at most 2 s; 2,000 steps at most 2.3 times 1,000.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lmprog.compiler import compile_file

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = str(ROOT / "specs" / "quickstart.yaml")


def processor_time(*command: str, runs: int = 15) -> float:
    """The median processor time of a command, with bytecode written as on any ordinary machine."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(runs):
        before = os.times()
        subprocess.run(command, capture_output=True, env=environment, check=True)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(times)


def large_program(count: int) -> str:
    """A program of `count` steps in chains of seven, with a module for every ten steps."""
    lines = ["lmprog: 1", "name: large", "inputs: {text: str}", "lms: {student: {model: embedded/smollm2-135m}}"]
    lines.append("modules:")
    for number in range(count // 10):
        lines.append(f"  m{number}:")
        lines.append("    inputs: {text: str, more: str}")
        lines.append("    outputs: {reasoning: str, label: str}")
        lines.append("    instructions: Say which.")
        user = "Text: {{ text }} more {{ more }} Reply with <reasoning> and <label>."
        lines.append(f"    prompt: {{system: '{{{{ instructions }}}}', user: '{user}'}}")
    lines.append("steps:")
    for number in range(count):
        before = f"steps.s{number - 1}.label" if number % 7 else "inputs.text"
        lines.append(f"  s{number}:")
        lines.append(f"    module: m{number % (count // 10)}")
        lines.append(f'    with: {{text: "${{{{ {before} }}}}", more: "${{{{ lower(inputs.text) }}}}"}}')
        if number % 11 == 5:
            lines.append("    when: len(inputs.text) > 3")
            lines.append("    else: {label: none}")
    lines.append("outputs:")
    lines += [f"  o{number}: ${{{{ steps.s{number}.label }}}}" for number in range(count)]
    return "\n".join(lines) + "\n"


def compile_time(count: int) -> float:
    """The processor time of compiling a large program that this process has not seen."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.yaml"
        path.write_text(large_program(count))
        before = time.process_time()
        compilation = compile_file(path)
        spent = time.process_time() - before
    if compilation.findings:
        raise SystemExit(str(compilation.findings[0]))
    return spent


def main() -> None:
    base = processor_time(sys.executable, "-c", "import pydantic, jinja2, yaml")
    code = f"from lmprog.compiler import compile_file; compile_file({QUICKSTART!r})"
    rows = {
        "import pydantic, jinja2, yaml": base,
        "compile quickstart.yaml": processor_time(sys.executable, "-c", code),
        "lmprog check quickstart.yaml": processor_time(
            sys.executable, "-c", "from lmprog.cli.main import main; main()", "check", QUICKSTART
        ),
    }
    for name, seconds in rows.items():
        print(f"{name:32} {seconds * 1000:7.0f} ms {seconds / base:5.2f} x")
    small = statistics.median(compile_time(1000) for _ in range(5))
    large = statistics.median(compile_time(2000) for _ in range(5))
    print(f"{'1,000 steps':32} {small * 1000:7.0f} ms")
    print(f"{'2,000 steps':32} {large * 1000:7.0f} ms {large / small:5.2f} x 1,000 steps")


if __name__ == "__main__":
    main()
