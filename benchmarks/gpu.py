"""The engine and the trainer on one GPU, in one command of at most 8 minutes that asks for no network.

    python benchmarks/gpu.py --data FOLDER --out OUT                # FOLDER has banking77/ and multihop/
    python benchmarks/gpu.py --data FOLDER --out OUT --model hf/MODEL
    python benchmarks/gpu.py --data FOLDER --out OUT --small        # the same parts in a minute, on a CPU too

It runs benchmarks/grpo_step.py (few-shot and search: our step, its split, peak memory, and TRL's stock step) and
benchmarks/local_engine.py (replies of 8 and of 32 tokens: rows and tokens a second, and the ratio to
`transformers.generate`), each side in a process of its own. Each part that is finished is in OUT/gpu.json at once; what the
time did not suffice for is named there under `left_out`.

Not run on a GPU yet; a test runs it with --small on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lmprog.compiler.yaml.whole_file import write_whole

HERE = Path(__file__).resolve().parent
STEP_SIZES = ("--examples", "2", "--rollouts", "2", "--demos", "1")
"""The options of a small step."""


def parts(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each part and its command, the most telling ones first."""
    small, model = options.small, ["--model", options.model]
    steps = ["--steps", "1" if small else "9", "--stock-steps", "1" if small else "3", *(STEP_SIZES if small else ())]
    rows = ["--rows", "8", "--peer-rows", "4", "--repeats", "1"] if small else ["--rows", "500", "--peer-rows", "500"]
    banking, multihop = ["--data", str(options.data / "banking77")], ["--data", str(options.data)]
    for program in ("few-shot", "search"):
        data = multihop if program == "search" else []
        for side in ("ours", "stock"):
            command = ["grpo_step.py", "--program", program, "--side", side, *data, *steps, *model]
            yield f"step/{program}/{side}", command
        case = "few-shot" if program == "few-shot" else "long"
        yield f"engine/{case}", ["local_engine.py", "--case", case, *banking, *rows, *model]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run each part within the time that is left; return what was found, and what was left out with the reason."""
    until = time.monotonic() + 60 * options.minutes
    found: dict[str, Any] = {"machine": machine(), "model": options.model, "parts": {}, "left_out": {}}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, command in parts(options):
        left = until - time.monotonic()
        try:
            if left <= 0:
                raise subprocess.TimeoutExpired(command, 0)
            found["parts"][name] = run(command, left)
        except subprocess.TimeoutExpired:
            found["left_out"][name] = f"the {options.minutes:g} minutes were over"
        except subprocess.CalledProcessError as error:
            found["left_out"][name] = f"it ended with status {error.returncode}: {(error.stderr or '')[-2000:]}"
        write_whole(options.out / "gpu.json", json.dumps(found, indent=1) + "\n")
    return found


def run(command: Sequence[str], seconds: float) -> Any:
    """Run a benchmark, and return the JSON document of its last line."""
    script, *given = command
    done = subprocess.run(
        [sys.executable, str(HERE / script), *given], capture_output=True, text=True, check=True, timeout=seconds
    )
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """The GPU, if there is one, and the versions that figures depend on."""
    import torch
    import transformers
    import trl

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {module.__name__: module.__version__ for module in (torch, transformers, trl)}
    return {"gpu": gpu, "cuda": torch.version.cuda, **versions}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield what was found, a line for each part."""
    made = found["parts"]
    yield f"{found['model']} on {found['machine']['gpu'] or 'a CPU: there is no GPU'}"
    for program in ("few-shot", "search"):
        ours, stock = (made.get(f"step/{program}/{side}") for side in ("ours", "stock"))
        for name, side in (("lmprog", ours), ("stock TRL", stock)):
            if side is not None:
                seconds = statistics.median(side["seconds"])
                yield f"step {program:<9} {name:<10} {seconds:8.2f} s, peak {side['peak_mb']:,.0f} MB"
        if ours is not None:
            split = {
                part: statistics.median(each.get(part, 0.0) for each in ours["splits"]) for part in ours["splits"][0]
            }
            yield f"step {program:<9} split      " + ", ".join(f"{part} {each:.2f} s" for part, each in split.items())
        if ours is not None and stock is not None:
            ratio = statistics.median(stock["seconds"]) / statistics.median(ours["seconds"])
            yield f"step {program:<9} ratio      {ratio:8.1f} times"
    for case in ("few-shot", "long"):
        if engine := made.get(f"engine/{case}"):
            yield (
                f"engine {case:<8} {engine['rows_per_second']:8.1f} rows/s, {engine['tokens_per_second']:,.0f} tokens/s, "
                f"{engine['ratio']:.1f} times transformers.generate"
            )
    for name, why in found["left_out"].items():
        yield f"left out: {name} ({why.strip().splitlines()[-1]})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds banking77/ and multihop/")
    parser.add_argument("--out", type=Path, required=True, help="the folder for gpu.json")
    parser.add_argument("--model", default="embedded/smollm2-135m", help="a model that lmprog loads, as hf/FOLDER")
    parser.add_argument("--minutes", type=float, default=7.5, help="after which no part goes on")
    parser.add_argument("--small", action="store_true", help="few rows and one step: to see that it runs")
    options = parser.parse_args()
    found = measure(options)
    print("\n".join(lines(found)))
    sys.exit(1 if found["left_out"] else 0)


if __name__ == "__main__":
    main()
