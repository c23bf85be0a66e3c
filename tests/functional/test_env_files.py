"""`.env` files: beside the program or named, said aloud without values, never over what is set, and not for strangers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

SPEC = """
    lmprog: 1
    name: desk
    lms: {lm: {model: openai/x, api_base: "${{ env.DESK_BASE }}", api_key: "${{ env.DESK_PASS }}", limits: {tries: 1}}}
    modules: {sort: {lm: lm, inputs: {text: str}, outputs: {label: str}}}
    data: {dev: dev.jsonl, train: dev.jsonl}
    metrics: {exact: {value: "1.0 if outputs.label == row.label else 0.0"}}
    tests: {one: {inputs: {text: a}, expect: {label: refund}}}
    optimize: {metric: exact, stages: [bootstrap]}
"""
KEY = "open-sesame-1234"


@pytest.fixture
def spec(write, provider, monkeypatch) -> Path:
    for name in ("DESK_BASE", "DESK_PASS", "DESK_OTHER"):
        # Set first, so that the test's end takes away what a file has set.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    provider.otherwise = "refund"
    write('{"text": "a", "label": "refund"}\n', "dev.jsonl")
    write(f"# the desk\nexport DESK_BASE={provider.url}\nDESK_PASS='{KEY}'  # a key\nDESK_OTHER\n", ".env")
    return write(SPEC)


@pytest.mark.parametrize(
    "arguments", [("run", "--input", "text=a"), ("test",), ("eval", "--split", "dev"), ("optimize", "--dry-run")]
)
def test_the_file_beside_the_program_is_read_and_named(cli, spec, arguments) -> None:
    verb, *others = arguments
    status, out, err = cli(verb, spec, *others)
    assert status == 0, err
    assert err.startswith(f"taken from {spec.parent / '.env'}: DESK_BASE, DESK_PASS\n")
    assert KEY not in out + err


def test_what_is_set_stays(cli, spec, provider, monkeypatch) -> None:
    monkeypatch.setenv("DESK_PASS", "of-the-shell")
    status, _, err = cli("run", spec, "--input", "text=a")
    assert status == 0 and ".env: DESK_BASE (DESK_PASS set already)" in err
    assert os.environ["DESK_PASS"] == "of-the-shell"


def test_a_named_file_takes_the_place_of_the_one_beside(cli, spec, write, provider) -> None:
    write(f"DESK_BASE={provider.url}\nDESK_PASS=other-key-5678\n", "live.env")
    status, _, err = cli("run", spec, "--input", "text=a", "--env-file", spec.parent / "live.env")
    assert status == 0 and "live.env: DESK_BASE, DESK_PASS" in err and "/.env" not in err
    assert os.environ["DESK_PASS"] == "other-key-5678"


def test_values_of_the_file_are_hidden_whatever_their_names(cli, spec, provider, tmp_path) -> None:
    provider.otherwise = (401, {}, json.dumps({"error": {"message": f"no such key: {KEY}"}}))
    trace = tmp_path / "calls.jsonl"
    status, out, err = cli("run", spec, "--input", "text=a", "--trace", trace)
    assert status == 3 and "no such key: [key]" in err
    assert KEY not in out + err + trace.read_text()


def test_a_check_of_a_strangers_program_reads_none(cli, spec) -> None:
    for arguments in (("check",), ("optimize", "--dry-run", "--no-import"), ("render",)):
        verb, *others = arguments
        err = cli(verb, spec, *others)[2]
        assert "taken from" not in err and "DESK_PASS" not in os.environ


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"DESK_BASE=x\n==\n", ".env:2: this line is no variable; write NAME=value"),
        (b"A='open\n", ".env:1: this line is no variable"),
        (b"\xff\xfe", "is no UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_without_its_text(cli, spec, text, said) -> None:
    (spec.parent / ".env").write_bytes(text)
    status, _, err = cli("run", spec, "--input", "text=a")
    assert (status, said in err) == (2, True), err


def test_only_a_regular_file_is_read(cli, spec) -> None:
    path = spec.parent / ".env"
    path.unlink()
    os.mkfifo(path)
    status, _, err = cli("run", spec, "--input", "text=a")
    assert status == 2 and "DESK_BASE" in err and "taken from" not in err
