"""`cache:` of an LM, through the command line: an answer that is kept is not asked for again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.functional.traced import calls

SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}"}
    lms:
      lm:
        model: openai/x
        api_base: "${{ env.TEST_API_BASE }}"
        api_key: "${{ env.TEST_KEY }}"
        price: {input: 1, output: 1}
        cache: true
    modules:
      sort: {inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}}
"""
PRIVATE = """
    lmprog: 1
    name: private
    inputs: {text: {type: str, private: true}}
    outputs: {label: "${{ steps.PART }}"}
    lms: {lm: {model: openai/x, api_base: "http://127.0.0.1:9", trusted: true, cache: {shared: true, folder: kept}}}
    modules:
      sort: {inputs: {text: str}, outputs: {label: str}}
"""


@pytest.fixture
def spec(write, provider, monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    monkeypatch.setenv("TEST_KEY", "sk-secret-of-the-cache-test")
    monkeypatch.setenv("LMPROG_CACHE", str(tmp_path / "cache"))
    provider.otherwise = "refund"
    return write(SPEC)


def test_an_equal_request_is_not_sent_again(cli, spec, provider, tmp_path) -> None:
    for name in ("first", "again"):
        status, out, _ = cli("run", spec, "--input", "text=a", "--trace", tmp_path / name)
        assert (status, json.loads(out)) == (0, {"label": "refund"})
    assert len(provider.requests) == 1
    first, again = (calls(tmp_path / name)[0] for name in ("first", "again"))
    assert "cached" not in first and first["usage"]["usd"] > 0
    assert again["cached"] is True and again["usage"] == {**first["usage"], "usd": 0.0}
    assert "1 reply from the cache\n" in cli("trace", tmp_path / "again")[1]
    assert cli("run", spec, "--input", "text=a", "--seed", 1)[0] == 0
    assert cli("run", spec, "--input", "text=b")[0] == 0
    assert len(provider.requests) == 3
    assert cli("run", spec, "--input", "text=a", "--set", "lms.lm.cache=false")[0] == 0
    assert len(provider.requests) == 4


def test_no_key_and_no_prompt_lies_in_the_file(cli, spec, tmp_path) -> None:
    assert cli("run", spec, "--input", "text=a very private question")[0] == 0
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert b"refund" in kept
    assert b"sk-secret" not in kept and b"very private" not in kept


def test_private_values_reach_no_shared_cache_in_sub_programs_judges_and_demos(cli, write) -> None:
    inner = PRIVATE.replace("{type: str, private: true}", "str").replace("name: private", "name: inner")
    own = 'lms: {lm: {model: openai/x, api_base: "http://127.0.0.1:9", trusted: true}}'
    shared = next(line.strip() for line in PRIVATE.splitlines() if line.strip().startswith("lms:"))
    write(inner.replace("PART", "sort.label"), "inner.yaml")
    rate = inner.replace("PART", "sort.label").replace("label: str", "label: float")
    write(rate, "judge.yaml")
    write('{"text": "a", "label": "b"}\n' * 4, "rows.jsonl")
    step = '    steps: {sub: {program: ./inner.yaml, with: {text: "${{ inputs.text }}"}}}\n'
    sub = PRIVATE.replace(shared, own).replace("PART", "sub.label").split("    modules:")[0] + step
    judged = PRIVATE.replace(shared, own).replace("PART", "sort.label") + (
        '    metrics: {m: {program: ./judge.yaml, with: {text: "${{ inputs.text }}"}}}\n'
    )
    demos = PRIVATE.replace("PART", "sort.label").replace("{type: str, private: true}", "str") + (
        "    data: {train: {path: rows.jsonl, private: [label]}, dev: rows.jsonl}\n"
        '    metrics: {m: {value: "${{ 1.0 }}"}}\n'
        "    optimize: {metric: m, tune: {sort: [demos]}, stages: [prompt_search]}\n"
    )
    proposed = PRIVATE.replace(shared, own.replace("}}", "}, writer: " + shared.partition("lm: ")[2])) + (
        "    data: {train: rows.jsonl, dev: rows.jsonl}\n"
        '    metrics: {m: {value: "${{ 1.0 }}"}}\n'
        "    optimize: {metric: m, tune: {sort: [instructions]}, stages: [prompt_search], proposer: writer}\n"
    ).replace("PART", "sort.label")
    proposed = proposed.replace("PART", "sort.label").replace("sort: {inputs", "sort: {lm: lm, inputs")
    for text, said in (
        (proposed, "reaches the shared cache of the proposer writer"),
        (PRIVATE.replace("PART", "sort.label"), "reaches the shared cache of lm"),
        (sub, "reaches the shared cache of lm"),
        (judged, "reaches the shared cache of lm of the judge m"),
        (demos, "data.train.label reaches the shared cache of lm"),
    ):
        status, _, err = cli("run", write(text), "--input", "text=a")
        assert status == 1
        assert "LMP402" in err and said in err, (text, err)
