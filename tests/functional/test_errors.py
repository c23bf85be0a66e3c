"""Every failure that a user can cause or meet: one message, the right exit status, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LMPROG = Path(sys.executable).with_name("lmprog")
SPEC = """
    lmprog: 1
    name: desk
    lms: {lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: "${{ env.TEST_KEY }}"}}
    modules:
      sort:
        lm: lm
        inputs: {text: str}
        outputs: {label: {enum: [billing, refund]}}
        prompt: {user: "{{ text }}"}
"""


@pytest.mark.parametrize(
    "verb", [["check"], ["run", "--input", "text=a"], ["eval"], ["render"], ["optimize", "--dry-run"]]
)
@pytest.mark.parametrize(
    ("before", "after", "place", "words"),
    [
        ("modules:", "modules: [", None, ""),
        ("        prompt:", "        promt:", ":9:5: error:", "did you mean `prompt`?"),
        ("{{ text }}", "{{ txet }}", ":9:", "did you mean `text`?"),
        ("lm: lm\n", "lm: ml\n", ":6:", "did you mean `lm`?"),
        ("lmprog: 1", "lmprog: 2", ":1:", "install a newer lmprog"),
    ],
    ids=["yaml", "key", "variable", "reference", "version"],
)
def test_a_wrong_program(cli, write, verb, before, after, place, words) -> None:
    assert before in SPEC
    spec = write(SPEC.replace(before, after))
    status, out, err = cli(verb[0], spec, *verb[1:])
    assert status == 1
    said = out + err
    assert f"{spec.name}{place or ':'}" in said
    assert words in said
    assert said.count(" error: ") >= 1


def test_a_missing_file(cli, tmp_path) -> None:
    for verb in (["check"], ["run", "--input", "a=b"], ["eval"], ["optimize"], ["graph"], ["compile"]):
        status, out, err = cli(verb[0], tmp_path / "none.yaml", *verb[1:])
        assert status in (1, 2)
        assert "none.yaml" in out + err


DATA = """
    data: {train: train.jsonl, dev: dev.jsonl}
    metrics: {m: {python: "./metrics.py:m", with: {label: "${{ outputs.label }}"}}}
    optimize: {metric: m, tune: {sort: [demos]}, stages: [prompt_search]}
"""


def test_missing_data(cli, write) -> None:
    write("def m(label):\n    return 1\n", "metrics.py")
    spec = write(SPEC + DATA)
    for verb in ("check", "optimize", "eval"):
        status, out, err = cli(verb, spec)
        assert status == 1
        assert "train.jsonl" in out + err
        assert "dev.jsonl" in out + err
    rows = write("{'text': 1}\n", "train.jsonl")
    write('{"text": "a"}\n', "dev.jsonl")
    status, out, _ = cli("check", spec)
    assert status == 1
    assert f"{rows}:1: this line is not JSON" in out
    status, _, err = cli("run", write(SPEC), "--inputs", "nowhere.jsonl", "--out", "out.jsonl")
    assert status == 1
    assert "nowhere.jsonl: No such file or directory" in err
    assert err.count("\n") == 1


def test_a_metric_that_cannot_be_imported(cli, write) -> None:
    write("import nothing_at_all\n", "metrics.py")
    for name in ("train", "dev"):
        write('{"text": "a"}\n', f"{name}.jsonl")
    status, out, _ = cli("check", write(SPEC + DATA))
    assert status == 1
    assert "nothing_at_all" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chekc"], "there is no verb 'chekc'; did you mean 'check'?"),
        (["frobnicate"], "there is no verb 'frobnicate'"),
        (["check"], "Missing argument"),
        (["check", "x.yaml", "--set", "name"], "--set wants NAME=VALUE, not 'name'"),
        (["explain", "LMP000"], "there is no finding 'LMP000'"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage(cli, arguments, words) -> None:
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "")
    assert words in err


def test_help_and_version(cli) -> None:
    status, out, _ = cli("--version")
    assert (status, out) == (0, "lmprog 0.1.0\n")
    for verb in ("check", "compile", "eval", "explain", "graph", "optimize", "render", "run"):
        status, out, err = cli(verb, "--help")
        assert (status, err) == (0, "")
        assert out.startswith(f"Usage: lmprog {verb} ")


def test_a_provider_that_is_down(cli, write, closed_port, monkeypatch) -> None:
    monkeypatch.setattr("lmprog.lms.api.FIRST_WAIT", 0.0)
    monkeypatch.setenv("TEST_API_BASE", f"http://127.0.0.1:{closed_port}/v1")
    monkeypatch.setenv("TEST_KEY", "sk-not-to-be-shown")
    status, out, err = cli("run", write(SPEC), "--input", "text=a")
    assert (status, out) == (3, "")
    assert err.startswith("lmprog: sort: openai/x gave no answer (tried 8 times): ")
    assert err.count("\n") == 1
    assert "sk-not-to-be-shown" not in err


def test_a_key_that_is_not_set(cli, write, provider, monkeypatch) -> None:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    monkeypatch.delenv("TEST_KEY", raising=False)
    status, out, err = cli("run", write(SPEC), "--input", "text=a")
    assert (status, out) == (2, "")
    assert err.startswith("lmprog: ")
    assert "TEST_KEY" in err
    assert err.count("\n") == 1


def test_a_place_that_cannot_be_written(cli, write) -> None:
    rows = write('{"text": "a"}\n', "rows.jsonl")
    file = write("x", "file")
    for option in ("--out", "--trace"):
        more = [] if option == "--out" else ["--out", rows.with_name("out.jsonl")]
        status, _, err = cli("run", write(SPEC), "--fake", "--inputs", rows, *more, option, file / "inside.jsonl")
        assert status == 3
        assert err.startswith("lmprog: ")
        assert err.count("\n") == 1


@pytest.mark.slow
def test_no_network_for_the_weights(write, tmp_path, closed_port) -> None:
    spec = write(
        SPEC.replace("openai/x", "embedded/smollm2-135m").replace(', api_base: "${{ env.TEST_API_BASE }}"', "")
    )
    environment = {
        **os.environ,
        "LMPROG_CACHE": str(tmp_path / "empty"),
        "PIP_INDEX_URL": f"http://127.0.0.1:{closed_port}/simple",
        "PIP_RETRIES": "0",
    }
    spec.write_text(spec.read_text().replace(', api_key: "${{ env.TEST_KEY }}"', ""))
    done = subprocess.run(
        [LMPROG, "run", spec, "--input", "text=a"], capture_output=True, text=True, env=environment, check=False
    )
    *_, last = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr
    assert last.startswith("lmprog: the weights of embedded/smollm2-135m are not in ")
    assert len(done.stderr.splitlines()) <= 2


def test_the_console_script(write) -> None:
    done = subprocess.run([LMPROG, "check", write("a: [b\n")], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error" in done.stdout


def test_a_reader_that_goes_away_ends_it_in_silence(write) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{LMPROG} graph {write(SPEC)} | true"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_check_imports_neither_torch_nor_litellm(write) -> None:
    spec = write(SPEC)
    code = f"""
import sys
from lmprog.cli.main import main
try:
    main(["check", {str(spec)!r}])
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = {{"torch", "litellm", "transformers", "trl", "peft", "scipy", "optuna", "openai"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
