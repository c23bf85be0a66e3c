"""The full variants of the three tasks, on a few rows as the hub has them: checked, forecast, and run to their ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmprog.tools import search

pytest.importorskip("trl", reason="needs the extra 'local'")

pytestmark = pytest.mark.model

SPECS = Path(__file__).parents[2] / "specs"
FULL = SPECS / "full"
LMS = {"banking77": ["student"], "hover": ["student"], "papillon": ["local", "remote", "judge"]}
HUB: dict[tuple[str, str | None], list[dict[str, Any]]] = {
    ("mteb/banking77", None): [
        {"text": f"Where is the card that I ordered {n} days ago?", "label": 11, "label_text": "card_arrival"}
        for n in range(2, 12)
    ],
    ("vincentkoc/hover-parquet", None): [
        {
            "claim": f"The capital of country {n} lies on a river which flows through Vienna.",
            "supporting_facts": [{"key": "Danube", "value": 0}, {"key": f"Country {n}", "value": 1}],
            "num_hops": 2 + n % 3,
        }
        for n in range(30)
    ],
    ("BeIR/hotpotqa", "corpus"): [
        {"_id": "1", "title": "Danube", "text": "The Danube is a river which flows through Vienna."},
        *({"_id": f"{n}0", "title": f"Country {n}", "text": f"A country with capital {n}."} for n in range(30)),
    ],
    ("Columbia-NLP/PUPA", "pupa_new"): [
        {
            "user_query": f"Write to Anna Berg, room {n}, that the meeting is at nine.",
            "target_response": f"Dear Anna Berg in room {n}, the meeting is at nine.",
            "pii_units": f"anna berg||room {n}",
        }
        for n in range(4)
    ],
}
TUNED = {
    "banking77": ["classify"],
    "hover": ["generate_query", "append_notes"],
    "papillon": ["craft_request", "respond"],
}
STAGES = [
    {"prompt_search": {"trials": 1, "minibatch": 1, "bootstrap_rows": 0, "proposals": 0}},
    {"grpo": {"steps": 1, "examples": 1, "rollouts": 2, "no_signal": "drop", "credit": 0, "temperature": 0.6}},
]
SMALL: dict[str, dict[str, Any]] = {
    "banking77": {
        "vars.labels": ["card_arrival", "change_pin"],
        "modules.classify.decoding": "constrained",
        "modules.classify.outputs.reasoning": {"enum": ["so"]},
    },
    "hover": {
        "vars.hops": 2,
        "vars.k": 1,
        "modules.generate_query.decoding": "constrained",
        "modules.generate_query.outputs": {"reasoning": {"enum": ["so"]}, "query": {"enum": ["Danube", "country 9"]}},
        "modules.append_notes.decoding": "constrained",
        "modules.append_notes.outputs": {"reasoning": {"enum": ["so"]}, "new_notes": {"enum": ["a river", "none"]}},
    },
    "papillon": {"metrics.quality.on_error": 0, "metrics.leakage.on_error": 1},
}
"""What makes a run short, and readable with a model of random weights; the rest is as it stands."""


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The data sets of the hub, a few rows of each; the index of their pages is the test's own."""
    import datasets

    def load_dataset(name: str, config: str | None, split: str) -> list[dict[str, Any]]:
        return HUB[name, config]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(search, "cache_root", lambda: tmp_path / "cache")
    search._index.cache_clear()
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    yield
    search._index.cache_clear()


@pytest.mark.parametrize("name", LMS)
def test_the_cost_and_the_time_of_a_full_run_are_known(cli, name: str) -> None:
    spec = FULL / f"{name}.yaml"
    assert cli("check", spec, "--strict")[0] == 0
    status, out, err = cli("optimize", spec, "--dry-run", "--format", "json")
    assert status == 0, err
    found = json.loads(out)
    assert found["unknown"] == [] and found["bounded"]
    most = found["in_all"]
    # 750 steps of 4 examples and 12 runs of each, at the least
    assert most["lm_calls"] > 750 * 4 * 12
    assert most["prompt_tokens"] > most["completion_tokens"] > 0 and most["seconds"] > 0
    assert (most["usd"] > 0) == (name == "papillon")


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with two thin layers of random weights in place of its thirty: its tokenizer, and so its prompts."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from lmprog.lms.embedded import model_folder

    folder = tmp_path_factory.mktemp("model")
    config = AutoConfig.from_pretrained(model_folder())
    config.update(
        {"hidden_size": 36, "intermediate_size": 32, "num_hidden_layers": 2, "layer_types": None, "head_dim": 4}
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_folder()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", LMS)
def test_a_full_variant_runs_to_its_end_on_a_small_model(cli, small_model, name: str, tmp_path: Path) -> None:
    sets: dict[str, Any] = {f"data.{split}.limit": 2 for split in ("train", "dev", "test")}
    sets |= {f"lms.{lm}.params.max_tokens": 8 if name == "papillon" else 120 for lm in LMS[name]}
    # At temperature 0 the small model writes nothing but line breaks, which is no reply.
    sets |= {f"lms.{lm}.params.temperature": 1.0 for lm in LMS[name]} if name == "papillon" else {}
    sets |= SMALL[name] | {"optimize.stages": STAGES}
    lms = [part for lm in LMS[name] for part in ("--lm", f"{lm}=hf/{small_model}")]
    small = [part for path, value in sets.items() for part in ("--set", f"{path}={json.dumps(value)}")]
    run, out = tmp_path / "run", tmp_path / "tuned.yaml"
    status, said, err = cli(
        "optimize", FULL / f"{name}.yaml", *lms, *small, "--run-dir", run, "-o", out, "--format", "json"
    )
    assert status == 0, err
    report = json.loads(said)
    assert [stage["stage"] for stage in report["stages"]] == ["prompt_search", "grpo"]
    assert report["stages"][1]["steps"] == 1 and out.is_file()
    (step,) = (line for line in map(json.loads, (run / "journal.jsonl").open()) if line["event"] == "step")
    assert step["unreadable"] == step["lost"] == 0 and step["examples"] == 1
    # Each module that is tuned was called in it.
    assert set(step["modules"]) == set(TUNED[name])
