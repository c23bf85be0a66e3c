"""`lmprog test`: examples, gates, what a provider stops, reports, and replay without a server or a key."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest

SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}", size: "${{ steps.measure.size }}"}
    lms:
      lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: "${{ env.TEST_API_KEY }}"}
    tools:
      measure: {python: "./tools.py:measure", result: size}
    modules:
      sort: {lm: lm, inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}, instructions: Sort.}
    steps:
      sort: {module: sort, with: {text: "${{ inputs.text }}"}}
      measure: {tool: measure, with: {text: "${{ inputs.text }}"}}
    data: {test: test.jsonl}
    metrics:
      exact: {python: "./metrics.py:exact", with: {label: "${{ outputs.label }}", wanted: "${{ row.label }}"}}
      good: {program: ./judge.yaml, with: {label: "${{ outputs.label }}"}}
    tests:
      a refund: {inputs: {text: "12"}, expect: {label: refund, size: 0.2}}
      anything: {inputs: {text: "99"}, expect: {}}
      good enough: {data: test, metric: exact, at_least: 0.8}
      the judge agrees: {data: test, metric: good, at_least: 0.5}
"""
JUDGE = """
    lmprog: 1
    inputs: {label: str}
    outputs: {score: "${{ steps.judge.score }}"}
    lms: {critic: {model: openai/y, api_base: "${{ env.TEST_API_BASE }}", api_key: "${{ env.TEST_API_KEY }}"}}
    modules:
      judge: {lm: critic, inputs: {label: str}, outputs: {score: float}, instructions: Judge.}
    steps:
      judge: {module: judge, with: {label: "${{ inputs.label }}"}}
"""
FAILURE = (401, {}, json.dumps({"error": {"message": "who are you"}}))


def said(text: str) -> str:
    if text in ("refund", "billing"):
        return "0.75"
    return "billing" if text in ("3", "7") else "refund"


@pytest.fixture
def spec(write, provider, monkeypatch) -> Path:
    """All four tests pass: of ten rows that are `refund`, two are taken for `billing`."""
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    monkeypatch.setenv("TEST_API_KEY", "a-key-of-the-test")
    provider.otherwise = said
    write("def exact(label, wanted):\n    return label == wanted\n", "metrics.py")
    write("def measure(text: str) -> float:\n    return len(text) * 0.1\n", "tools.py")
    write(JUDGE, "judge.yaml")
    write("".join(json.dumps({"text": str(index), "label": "refund"}) + "\n" for index in range(10)), "test.jsonl")
    return write(SPEC)


def test_all_pass(cli, spec) -> None:
    status, out, err = cli("test", spec)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"passed  {spec}: a refund  (")
    assert lines[3] == "        exact 80.0% [49.0, 94.3] on 10 rows of test: at least 80%"
    assert lines[5] == "        good 75.0% [51.9, 82.7] on 10 rows of test: at least 50%"
    assert lines[-1] == "4 tests: 4 passed"


def test_what_differs(cli, spec, provider) -> None:
    provider.otherwise = lambda text: "0.25" if text in ("refund", "billing") else "billing"
    status, out, _ = cli("test", spec)
    assert status == 1
    assert f"FAILED  {spec}: a refund" in out
    assert "\n        label: expected 'refund', got 'billing'\n" in out
    assert "\n        exact 0.0% [0.0, 27.8] on 10 rows of test: below 80%\n" in out
    assert out.endswith("4 tests: 1 passed, 3 failed\n")


def test_a_reply_that_cannot_be_read_is_a_failed_test(cli, spec, provider) -> None:
    provider.otherwise = "what?"
    status, out, _ = cli("test", spec, "-k", "ANYTHING")
    assert (status, "1 test: 1 failed" in out) == (1, True)
    assert '\n        sort: label: "what?" is not one of billing, refund\n' in out


def test_what_an_on_error_answered_is_said_of_tests_that_pass(cli, spec, write, provider) -> None:
    write(
        SPEC.replace(
            'sort, with: {text: "${{ inputs.text }}"}',
            'sort, with: {text: "${{ inputs.text }}"}, on_error: {label: refund}',
        )
    )
    provider.otherwise = lambda text: FAILURE if text in ("12", "4", "5") else said(text)
    status, out, _ = cli("test", spec)
    assert (status, out.splitlines()[-1]) == (0, "4 tests: 4 passed")
    assert "        1 run: step `sort` failed (provider) and was answered by its `on_error`: sort: " in out
    assert out.count("        2 runs: step `sort` failed (provider) and was answered by its `on_error`: row 4: ") == 2


def test_a_gate_counts_what_fails_by_itself_as_lowest(cli, spec, write) -> None:
    write("def measure(text: str) -> float:\n    return {5: None}.get(int(text), len(text) * 0.1)\n", "tools.py")
    status, out, _ = cli("test", spec)
    cause = "1 runs failed (tool): row 5: measure: measure returned what it does not declare: null is not a value of type float"
    assert status == 1 and out.count(f"        {cause}\n") == 2
    assert "\n        exact 70.0% [39.7, 89.2] on 10 rows of test: below 80%\n" in out
    assert out.endswith("4 tests: 3 passed, 1 failed\n")


def test_a_provider_that_fails_is_no_failed_test(cli, spec, tmp_path, provider) -> None:
    provider.otherwise = lambda text: FAILURE if text == "5" else said(text)
    status, _, err = cli("test", spec, "--record", spec)
    assert (status, err, provider.requests) == (
        2,
        f"lmprog: {spec} is no trace, so it is left alone; name another file\n",
        [],
    )
    record = tmp_path / "tests.jsonl"
    status, out, err = cli("test", spec, "--record", record)
    assert status == 3
    assert "\n        1 runs failed (provider): sort: openai/x gave no answer" in out
    assert "\n        exact 77.8% [45.3, 93.7] on the other 9 rows of test\n" in out
    assert out.endswith("4 tests: 2 passed, 2 stopped by a provider\n")
    assert (err, record.exists()) == (f"{record} was not written, since a provider failed\n", False)


def test_the_document(cli, spec) -> None:
    status, out, _ = cli("test", spec, "--format", "json", "-k", "good enough")
    document = json.loads(out)
    assert (status, document["passed"], document["failed"], document["errors"]) == (0, 1, 0, 0)
    (only,) = document["tests"]
    assert (only["name"], only["status"], only["score"]["mean"], only["score"]["n"]) == (
        "good enough",
        "passed",
        0.8,
        10,
    )


def test_junit(cli, spec, provider) -> None:
    provider.otherwise = lambda text: FAILURE if text == "99" else "<b>&\x07" if text == "12" else "billing"
    status, out, _ = cli("test", spec, "--format", "junit", "-k", "a")
    suite = ElementTree.fromstring(out)
    assert status == 3
    assert [suite.get(name) for name in ("name", "tests", "failures", "errors")] == ["lmprog test", "4", "3", "1"]
    refund, anything, *_ = suite
    assert (refund.get("classname"), refund.get("name")) == (str(spec), "a refund")
    failure, error = refund.find("failure"), anything.find("error")
    assert failure is not None
    refused = 'sort: label: "<b>&\\u0007" is not one of billing, refund'
    assert failure.text == f'{refused}; the reply begins "<b>&\\u0007"'
    assert error is not None
    assert "gave no answer" in str(error.get("message"))


def test_several_texts_choose_the_tests_that_have_any_of_them(cli, spec) -> None:
    status, out, _ = cli("test", spec, "--fake", "--format", "json", "-k", "a REFUND", "-k", "anything")
    assert (status, [test["name"] for test in json.loads(out)["tests"]]) == (0, ["a refund", "anything"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-k", "nothing"], "none of 4 tests has 'nothing' in it"),
        (["-k", "nothing", "-k", "no more"], "none of 4 tests has 'nothing' or 'no more' in it"),
        (["--set", "tests=[]"], "there is nothing to run; write `tests:`"),
        (["--record", "a", "--replay", "b"], "name one of the two"),
        (["--fake", "--replay", "b"], "leave --record and --replay out"),
        (["--replay", "not-there.jsonl"], "there is no recording not-there.jsonl"),
    ],
)
def test_wrong_usage(cli, spec, more, message) -> None:
    status, out, err = cli("test", spec, *more)
    assert (status, out) == (2, "")
    assert message in err


def test_replay_needs_no_server_and_no_key(cli, spec, tmp_path, provider, monkeypatch) -> None:
    record = tmp_path / "kept" / "tests.jsonl"
    assert cli("test", spec, "--record", record)[0] == 0
    asked = len(provider.requests)
    assert asked == 2 + 10 + 20
    assert b"a-key-of-the-test" not in record.read_bytes()
    monkeypatch.delenv("TEST_API_BASE")
    monkeypatch.delenv("TEST_API_KEY")
    status, out, _ = cli("test", spec, "--replay", record)
    assert (status, out.splitlines()[-1], len(provider.requests)) == (0, "4 tests: 4 passed", asked)
    status, out, _ = cli("test", spec, "--replay", record, "--set", "modules.sort.instructions=Guess.")
    assert (status, out.splitlines()[-1], len(provider.requests)) == (1, "4 tests: 4 failed", asked)
    assert f"{record} holds no reply for sort (row test a refund): message 1 (system) has changed" in out


@pytest.mark.slow
def test_replay_loads_nothing_heavy(spec, tmp_path, cli) -> None:
    record = tmp_path / "tests.jsonl"
    assert cli("test", spec, "--record", record, "-k", "refund")[0] == 0
    code = f"""
        import sys
        from lmprog.cli.main import main
        try:
            main(["test", {str(spec)!r}, "--replay", {str(record)!r}, "-k", "refund"])
        except SystemExit as end:
            assert not end.code
        print([name for name in ("torch", "transformers", "litellm", "aiohttp") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_several_programs(cli, spec, write) -> None:
    other = write("lmprog: 1\nextends: ./program.yaml\ntests: []\n", "other.yaml")
    status, out, err = cli("test", spec, other, "-k", "refund")
    assert (status, out.splitlines()[-1]) == (0, "1 test: 1 passed")
    assert err == f"{other} has no tests\n"


def test_fake_replies_show_whether_each_test_runs(cli, spec, write, provider) -> None:
    status, out, err = cli("test", spec, "--fake")
    assert (status, err, len(provider.requests)) == (0, "", 0)
    assert out.count("10 rows of test were run; the score of fake replies is not compared") == 2
    assert out.count("what it expects is not compared with fake replies") == 2 and "passed" not in out
    assert out.endswith("4 tests: 4 ran\n")
    write("def measure(text: str) -> float:\n    return None if text == '5' else 0.1\n", "tools.py")
    status, out, _ = cli("test", spec, "--fake")
    assert status == 1 and "1 runs failed (tool): row 5: measure" in out
    assert out.endswith("4 tests: 2 ran, 2 failed\n")
