"""The full variants of the three tasks: checked and forecast, on a few rows as the hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

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


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The data sets of the hub, a few rows of each; the index of their pages is the test's own."""
    import datasets

    def load_dataset(name: str, config: str | None, split: str) -> list[dict[str, Any]]:
        return HUB[name, config]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setenv("LMPROG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "none")


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
