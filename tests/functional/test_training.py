"""`lmprog optimize` with `grpo` on small models of random weights: which adapters come out of it, and what they do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

pytestmark = pytest.mark.model

PROGRAM = """
lmprog: 1
name: letters
inputs: {text: str}
outputs: {first: "${{ steps.first.said }}", second: "${{ steps.second.said }}"}
lms:
  one: {model: hf/MODEL, params: {max_tokens: 4}}
  two: {model: hf/OTHER, params: {max_tokens: 4}}
modules:
  first: {lm: one, inputs: {text: str}, outputs: {said: str}, instructions: Say a}
  second: {lm: SECOND, inputs: {text: str}, outputs: {said: str}, instructions: Say b}
steps:
  first: {module: first, with: {text: "${{ inputs.text }}"}}
  second: {module: second, with: {text: "${{ inputs.text }}"}}
data: {train: rows.jsonl, dev: dev.jsonl}
metrics:
  letters:
    python: ./metrics.py:letters
    with: {first: "${{ outputs.first }}", second: "${{ outputs.second }}"}
optimize:
  metric: letters
  accept: point
  adapters: ADAPTERS
  tune: {first: [weights], second: [weights]}
  stages:
    - grpo: {steps: 12, examples: 4, rollouts: 8, learning_rate: 0.02, evaluate_every: 6, lora: {rank: 4, alpha: 8}}
"""
METRICS = """
def letters(first: str, second: str) -> float:
    return (first.count("a") + second.count("b")) / 8
"""


@pytest.fixture
def letters(tiny_model, write) -> Callable[..., Path]:
    """Writes a program that is to say a lot of a, and then of b."""

    def make(adapters: str = "per_lm", second: str = "one", other: int = 0, **more: str) -> Path:
        write(METRICS, "metrics.py")
        for name, count in (("rows.jsonl", 8), ("dev.jsonl", 12)):
            write("".join(json.dumps({"text": f"{name[0]}{n}"}) + "\n" for n in range(count)), name)
        text = PROGRAM.replace("ADAPTERS", adapters).replace("SECOND", second)
        model = str(tiny_model())
        text = text.replace("MODEL", model).replace("OTHER", str(tiny_model(other)) if other else model)
        for old, new in more.items():
            text = text.replace(old, new)
        if second == "one":
            text = text.replace(next(line for line in text.splitlines() if line.startswith("  two:")) + "\n", "")
        return write(text)

    return make


def optimized(cli, spec: Path) -> dict[str, Any]:
    status, out, err = cli("optimize", spec, "--run-dir", spec.parent / "run", "--format", "json")
    assert status == 0, err
    return json.loads(out)


@pytest.mark.parametrize(
    ("adapters", "second", "other", "names", "where"),
    [
        ("per_lm", "one", 0, {"one"}, {"lms": {"one"}}),
        ("per_module", "one", 0, {"first", "second"}, {"modules": {"first", "second"}}),
        ("per_lm", "two", 1, {"one", "two"}, {"lms": {"one", "two"}}),
        ("per_lm", "two", 0, {"one", "two"}, {"lms": {"one", "two"}}),  # two LMs of one model
        ("per_module", "two", 1, {"first", "second"}, {"modules": {"first", "second"}}),
    ],
)
def test_each_adapter_is_trained_and_named_in_the_overlay(
    cli, letters, monkeypatch, adapters: str, second: str, other: int, names: set[str], where: dict[str, set[str]]
) -> None:
    import yaml

    from lmprog.lms import local

    spec = letters(adapters, second, other)
    report = optimized(cli, spec)
    overlay = spec.with_name("program.tuned.yaml")
    written = yaml.safe_load(overlay.read_text())
    found = {section: {id for id, part in written[section].items() if "adapter" in part} for section in where}
    assert found == where and not {"lms", "modules"} - where.keys() & written.keys()
    (folder,) = (spec.parent / "run" / "1-grpo").glob("adapters-*")
    assert {path.name for path in folder.iterdir()} == names
    assert cli("check", overlay)[0] == 0
    monkeypatch.setattr(local, "_loaded", {})  # as in a process of its own
    status, out, _ = cli("eval", overlay, "--split", "dev", "--format", "json")
    assert status == 0
    assert json.loads(out)["mean"] == report["stages"][0]["validate"]["mean"] > 0.2


@pytest.fixture
def adapted(letters, write, tiny_model) -> Callable[..., Path]:
    """Writes an overlay that gives adapters of random weights to LMs and modules, `lms.one` and the like."""

    def make(places: dict[str, int], second: str = "one") -> Path:
        import peft
        import torch
        import yaml
        from transformers import AutoModelForCausalLM

        letters("per_module" if "modules." in str(places) else "per_lm", second, other=1)
        overlay: dict[str, Any] = {"extends": "./program.yaml"}
        for place, seed in places.items():
            section, id = place.split(".")
            torch.manual_seed(seed)
            lora = peft.LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
            folder = write("", f"adapters/{id}/nothing").parent
            peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model(0)), lora).save_pretrained(folder)
            overlay.setdefault(section, {})[id] = {"adapter": f"./adapters/{id}"}
        return write(yaml.safe_dump(overlay), "program.tuned.yaml")

    return make


@pytest.fixture
def in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models in this process answer in fp32, whatever the machine is fast at, and are loaded anew."""
    from lmprog.lms import local
    from lmprog.lms.local import weights

    monkeypatch.setattr(weights, "fast_in_bfloat16", lambda: False)
    monkeypatch.setattr(local, "_loaded", {})


def answers(cli, spec: Path, *options: str) -> list[dict[str, str]]:
    out = spec.with_name("out.jsonl")
    out.unlink(missing_ok=True)
    status, _, err = cli("run", spec, "--inputs", spec.with_name("dev.jsonl"), "--out", out, *options)
    assert status == 0, err
    return [json.loads(line)["outputs"] for line in out.read_text().splitlines()]


def test_a_merged_model_answers_as_the_model_with_its_adapter(cli, adapted, in_fp32, tmp_path: Path) -> None:
    import hashlib

    tuned = adapted({"lms.one": 1})
    status, _, err = cli("export", tuned, "--merged", tmp_path / "merged")
    assert status == 0 and f"hf/{tmp_path / 'merged'}" in err
    note = json.loads((tmp_path / "merged" / "lmprog.json").read_text())
    weights = (tmp_path / "adapters/one/adapter_model.safetensors").read_bytes()
    assert note["adapter_sha256"] == hashlib.sha256(weights).hexdigest()
    assert (note["lm"], note["modules"]) == ("one", ["first", "second"])
    base = answers(cli, tuned.with_name("program.yaml"))
    expected = answers(cli, tuned)
    assert base != expected
    assert answers(cli, tuned.with_name("program.yaml"), "--lm", f"one=hf/{tmp_path / 'merged'}") == expected


def test_each_module_with_an_adapter_of_its_own_gets_a_folder(cli, adapted, in_fp32, tmp_path: Path) -> None:
    tuned = adapted({"modules.first": 1, "modules.second": 2})
    status, _, err = cli("export", tuned, "--merged", tmp_path / "merged")
    assert status == 0, err
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {"first", "second"}
    expected = answers(cli, tuned)
    for name in ("first", "second"):
        found = answers(cli, tuned.with_name("program.yaml"), "--lm", f"one=hf/{tmp_path / 'merged' / name}")
        assert [row[name] for row in found] == [row[name] for row in expected]


def test_what_cannot_be_merged_is_said(cli, adapted, tmp_path: Path) -> None:
    tuned = adapted({"lms.one": 1})
    status, _, err = cli("export", tuned.with_name("program.yaml"), "--merged", tmp_path / "merged")
    assert status == 2 and "has no adapter" in err
    status, _, err = cli("export", tuned, "--merged", tmp_path)
    assert status == 2 and "is there already" in err
    served = [
        "--lm",
        "one=hosted_vllm/one",
        "--set",
        "optimize.tune={first: [demos], second: [demos]}",
        "--set",
        "optimize.stages=[bootstrap]",
    ]
    status, _, err = cli("export", tuned, "--merged", tmp_path / "merged", *served)
    assert status == 1 and "--lm one=hf/" in err
    (tmp_path / "adapters/one/adapter_model.safetensors").unlink()
    status, _, err = cli("export", tuned, "--merged", tmp_path / "merged")
    assert status == 1 and "adapter_model.safetensors" in err
    assert not list(tmp_path.glob("*merged*"))


@pytest.mark.parametrize("adapters", ["per_lm", "per_module"])
def test_training_begins_as_a_copy_of_the_adapter_that_is_there(cli, adapted, tmp_path: Path, adapters: str) -> None:
    from safetensors.torch import load_file

    tuned = adapted({"lms.one": 1})
    start = tmp_path / "adapters/one"
    before = {path.name: path.read_bytes() for path in start.iterdir()}
    # Steps too small to be seen, and a shape that is not that of the adapter.
    stages = "optimize.stages=[{grpo: {steps: 2, examples: 2, rollouts: 4, learning_rate: 1.0e-9, lora: {rank: 2}}}]"
    status, _, err = cli(
        *("optimize", tuned, "--run-dir", tmp_path / "run", "-o", tmp_path / "again.yaml"),
        *("--set", stages, "--set", f"optimize.adapters={adapters}"),
    )
    assert status == 0, err
    written = sorted((tmp_path / "run/1-grpo").glob("adapters-*/*"))
    assert [path.name for path in written] == (["one"] if adapters == "per_lm" else ["first", "second"])
    expected = load_file(start / "adapter_model.safetensors")
    for folder in written:
        found = load_file(folder / "adapter_model.safetensors")
        assert found.keys() == expected.keys()
        assert all((found[name] - weight).abs().max() < 1e-6 for name, weight in expected.items())
        assert json.loads((folder / "adapter_config.json").read_text())["lora_alpha"] == 16
    assert {path.name: path.read_bytes() for path in start.iterdir()} == before


def test_the_stage_ends_with_what_each_module_accounts_for(cli, letters, write) -> None:
    spec = letters(**{"steps: 12, examples: 4, rollouts: 8": "credit: 3, steps: 2, examples: 2, rollouts: 2"})
    write(
        "def letters(first: str, second: str) -> float:\n    return sum(map(ord, first + second)) % 10 / 10\n",
        "metrics.py",
    )
    report = optimized(cli, spec)
    credit = report["stages"][0]["credit"]
    assert [module["module"] for module in credit["modules"]] == ["first", "second"]
    assert (credit["rows"], credit["repeats"], credit["rest"]["mean"], credit["deviation"] > 0) == (3, 4, 0, True)
    # Side by side: each alone is all that follows from it.
    assert all(module["share"] == module["reached"] for module in credit["modules"])
    run = spec.parent / "run"
    kept = [line for line in (run / "journal.jsonl").read_text().splitlines() if '"1-grpo/credit"' in line]
    assert len(kept) == 1
    status, _, _ = cli("view", run, "--export", run / "page.html")
    assert status == 0 and "Credit of modules" in (run / "page.html").read_text()
    status, _, err = cli("optimize", spec, "--run-dir", run, "--resume", "--format", "json")
    assert status == 0, err
    assert (run / "journal.jsonl").read_text().count('"1-grpo/credit"') == 1


def test_credit_is_left_out_where_nothing_is_to_be_told_apart_or_paid(cli, letters) -> None:
    options = "credit: 0, steps: 1, examples: 2, rollouts: 2"
    report = optimized(cli, letters(**{"steps: 12, examples: 4, rollouts: 8": options}))
    assert "credit" not in report["stages"][0]
