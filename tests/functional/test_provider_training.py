"""`lmprog optimize` with `sft` on a model behind an API, whose provider trains it: a stand-in that speaks OpenAI's protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.functional.finetuning_server import BASE, FineTuningServer

pytestmark = pytest.mark.slow

PROGRAM = """
lmprog: 1
name: desk
inputs: {text: str}
lms:
  student:
    model: openai/BASE
    api_base: "${{ env.FT_BASE }}"
    api_key: "${{ env.FT_KEY }}"
    params: {max_tokens: 8, temperature: 0}
modules:
  classify:
    lm: student
    inputs: {text: str}
    outputs: {label: {enum: [fruit, tool]}}
    instructions: Say which.
data: {train: train.jsonl, dev: dev.jsonl}
metrics:
  right: {value: "${{ outputs.label == row.label }}"}
optimize:
  metric: right
  tune: {classify: [weights]}
  stages:
    - sft: {samples: 0, labelled: 40}
"""
KEY = "sk-test-0123456789abcdef"
WORDS = {"apple": "fruit", "pear": "fruit", "hammer": "tool", "saw": "tool"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FineTuningServer]:
    from lmprog.lms import api
    from lmprog.lms.api import fine_tuning
    from lmprog.optimizers.sft import job

    for module, name, value in (
        (api, "FIRST_WAIT", 0.005),
        (api, "MAX_WAIT", 0.02),
        (fine_tuning, "SETTLE", 0.01),
        (job, "FIRST_POLL", 0.005),
        (job, "MAX_POLL", 0.01),
        (job, "READY_POLL", 0.005),
    ):
        monkeypatch.setattr(module, name, value)
    made = FineTuningServer()
    monkeypatch.setenv("FT_BASE", made.url)
    monkeypatch.setenv("FT_KEY", KEY)
    yield made
    made.close()


@pytest.fixture
def desk(write, server) -> Callable[..., Path]:
    def make(train: int = 32, **replaced: str) -> Path:
        for name, count in (("train.jsonl", train), ("dev.jsonl", 60)):
            words = [list(WORDS)[number % 4] for number in range(count)]
            rows = [{"text": f"{word} {name[0]}{number}", "label": WORDS[word]} for number, word in enumerate(words)]
            write("".join(json.dumps(row) + "\n" for row in rows), name)
        text = PROGRAM.replace("BASE", BASE, 1)
        for old, new in replaced.items():
            assert old in text, old
            text = text.replace(old, new)
        return write(text)

    return make


@pytest.fixture
def optimized(cli) -> Callable[..., tuple[int, str]]:
    def run(spec: Path, *more: str) -> tuple[int, str]:
        status, _, err = cli("optimize", spec, "--run-dir", spec.parent / "run", "--format", "json", *more)
        return status, err

    return run


def overlay_of(spec: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(spec.with_name("program.tuned.yaml").read_text())
    return found


def test_the_provider_trains_and_the_model_that_comes_out_is_kept_by_its_gain(cli, desk, optimized, server) -> None:
    spec = desk()
    server.unready = 2
    status, err = optimized(spec)
    assert status == 0, err
    name = f"ft:{BASE}:acme::0"
    overlay = overlay_of(spec)
    assert overlay["lms"] == {"student": {"model": f"openai/{name}"}}
    assert overlay["tuned"]["accepted"]["kept"] == 1
    assert "the job ftjob-0 of student is running" in err and "training loss=0.50" in err
    # What was sent: every labelled row once, in the prompt that the program sends, and nothing of the dev rows.
    rows = server.rows("file-0")
    assert len(rows) == 32
    assert rows[0]["messages"][-1] == {
        "role": "assistant",
        "content": WORDS[rows[0]["messages"][-2]["content"].split()[0]],
    }
    assert server.bodies[0]["hyperparameters"] == {"n_epochs": 3} and server.bodies[0]["suffix"] == "desk"
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
    assert KEY not in err and KEY not in (spec.parent / "run/journal.jsonl").read_text()
    # The overlay is a program whose every call asks the tuned model.
    before = server.chats[BASE]
    status, out, err = cli("eval", spec.with_name("program.tuned.yaml"), "--split", "dev", "--format", "json")
    assert status == 0 and json.loads(out)["mean"] == 1.0 and server.chats[BASE] == before


def test_a_model_that_is_no_better_is_not_kept(desk, optimized, server) -> None:
    spec = desk()
    server._learnt = lambda file: {}  # type: ignore[method-assign]
    status, err = optimized(spec)
    assert status == 0, err
    assert "lms" not in overlay_of(spec) and "no better" in err


def test_rows_of_runs_and_teachers_are_learnt_in_the_programs_own_prompt(desk, optimized, server, write) -> None:
    teacher = PROGRAM.partition("data:")[0].replace("BASE", BASE, 1).replace("Say which.", "Think, then say which.")
    write(teacher, "big.yaml")
    spec = desk(**{"{samples: 0, labelled: 40}": "{samples: 2, keep: 2, teachers: [{program: ./big.yaml}]}"})
    status, err = optimized(spec)
    assert status == 0, err
    rows = server.rows("file-0")
    # The model always says fruit, so that half of the rows have a run to learn from, and equal runs are one.
    assert len(rows) == 16 and {row["messages"][-1]["content"] for row in rows} == {"fruit"}
    assert {row["messages"][0]["content"].split("\n")[0] for row in rows} == {"Say which."}


def test_demos_are_turns_that_weigh_nothing(desk, optimized, server) -> None:
    demos = "instructions: Say which.\n    demos: [{text: plum 1, label: fruit}]"
    spec = desk(**{"instructions: Say which.": demos})
    status, err = optimized(spec)
    assert status == 0, err
    row = server.rows("file-0")[0]
    assert [message.get("weight") for message in row["messages"] if message["role"] == "assistant"] == [0, None]


FAILURES: dict[str, tuple[Callable[[FineTuningServer], None], list[str]]] = {
    "the job fails": (
        lambda server: server.outcome.update(status="failed", error={"code": "server_error", "message": "out of GPUs"}),
        ["lms.student (openai/gpt-4.1-mini-2025-04-14)", "job ftjob-0 failed: out of GPUs", "--restart-stage sft"],
    ),
    "the job is cancelled elsewhere": (
        lambda server: server.outcome.update(status="cancelled"),
        ["the fine-tuning job ftjob-0 was cancelled", "--restart-stage sft"],
    ),
    "the provider finds a fault in the rows": (
        lambda server: setattr(server, "_wrong", lambda file: {"message": "Invalid file format. Line 1: no messages"}),
        ["job ftjob-0 failed: Invalid file format. Line 1: no messages", "correct that"],
    ),
    "the file is refused": (
        lambda server: setattr(server, "file_statuses", ["uploaded", "error"]),
        ["the training file failed: the provider refuses the file file-0: line 3 is no JSON", "--restart-stage sft"],
    ),
    "the key may not": (
        lambda server: setattr(server, "failing", [("POST /files", 401)]),
        ["the training file failed: HTTP 401", "lms.student.api_key"],
    ),
    "there is no such API": (
        lambda server: setattr(server, "failing", [("POST /files", 404)]),
        ["HTTP 404", "hosted_vllm/"],
    ),
    "the limit of requests": (
        lambda server: setattr(server, "failing", [("POST /fine_tuning/jobs", 429)] * 8),
        ["the fine-tuning job failed (tried 8 times): HTTP 429: Rate limit reached", "--resume"],
    ),
    "the job is gone": (
        lambda server: setattr(server, "failing", [("GET /fine_tuning/jobs/ftjob-0", 404)]),
        ["the fine-tuning job ftjob-0 failed: HTTP 404"],
    ),
}


@pytest.mark.parametrize("name", sorted(FAILURES))
def test_a_failure_has_place_cause_and_fix_and_costs_no_second_job(name: str, desk, optimized, server) -> None:
    spec = desk()
    prepare, words = FAILURES[name]
    prepare(server)
    status, err = optimized(spec)
    assert status == 3, err
    assert all(part in err.splitlines()[-1] for part in ["lms.student", *words]), err
    assert len(server.jobs) <= 1
    uploads = server.asked.count("POST /files")
    # Once more: what has failed is not begun again behind the user's back.
    jobs = len(server.jobs)
    status, err = optimized(spec, "--resume")
    if jobs and status:
        assert status == 3 and "ftjob-0" in err and len(server.jobs) == 1
    else:
        assert status == 0 and len(server.jobs) == 1, err
    assert server.asked.count("POST /files") <= uploads + 1


def test_a_stage_that_is_restarted_starts_another_job(desk, optimized, server) -> None:
    spec = desk()
    server.outcome = {"status": "failed", "error": {"message": "out of GPUs"}}
    assert optimized(spec)[0] == 3
    server.outcome = {"status": "succeeded"}
    status, err = optimized(spec, "--restart-stage", "sft")
    assert status == 0, err
    assert overlay_of(spec)["lms"]["student"]["model"].endswith("::1") and len(server.jobs) == 2


@pytest.mark.parametrize("place", ["POST /files", "POST /fine_tuning/jobs"])
@pytest.mark.parametrize("status", [0, 500, 503])
def test_what_was_sent_without_an_answer_is_looked_for_and_not_sent_twice(
    place: str, status: int, desk, optimized, server
) -> None:
    server.failing = [(place, status)]
    # Others of the account, which stand before it in the lists.
    for number in range(5):
        server.files[f"file-other{number}"] = {
            "id": f"file-other{number}", "object": "file", "filename": "other.jsonl", "content": b"",
        }  # fmt: skip
        server.jobs[f"ftjob-other{number}"] = {
            "id": f"ftjob-other{number}", "object": "fine_tuning.job", "training_file": f"file-other{number}", "looks": 0,
        }  # fmt: skip
    code, err = optimized(desk())
    assert code == 0, err
    assert len(server.files) == len(server.jobs) == 6
    assert f"GET {place.removeprefix('POST ')}" in server.asked


def test_a_file_that_has_expired_is_sent_again(desk, optimized, server) -> None:
    spec = desk()
    server.failing = [("POST /fine_tuning/jobs", 401)]
    assert optimized(spec)[0] == 3
    server.files.clear()
    status, err = optimized(spec, "--resume")
    assert status == 0 and "has the file file-0 no more: the rows are sent again" in err, err
    assert len(server.jobs) == 1


def test_too_few_rows_are_found_before_anything_is_sent(cli, desk, optimized, server) -> None:
    spec = desk(train=9)
    status, out, _ = cli("check", spec)
    assert status == 1 and "can find 9 replies to learn at most, and the provider trains on 10 or more" in out
    # With runs alone it shows only when they are made.
    spec = desk(train=12, **{"{samples: 0, labelled: 40}": "{samples: 2}"})
    status, err = optimized(spec)
    assert status == 0 and "6 replies to learn, and the provider trains on 10 or more: nothing is sent" in err, err
    assert not server.asked


def test_a_row_that_the_provider_would_cut_is_left_out(desk, optimized, server, write) -> None:
    spec = desk()
    rows = [json.loads(line) for line in spec.with_name("train.jsonl").read_text().splitlines()]
    rows[3]["text"] += " x" * 140_000
    write("".join(json.dumps(row) + "\n" for row in rows), "train.jsonl")
    status, err = optimized(spec)
    assert status == 0 and "1 replies are left out, whose rows have more than 65,536 tokens" in err, err
    assert len(server.rows("file-0")) == 31


@pytest.mark.parametrize("asked", [True, False])
def test_ctrl_c_leaves_the_job_and_asks_at_a_terminal_whether_to_cancel_it(
    asked: bool, desk, optimized, server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import _thread
    import sys

    import click

    from lmprog.optimizers.sft import job

    spec = desk()
    server.stays = True
    looks = iter(range(100))
    state = job.ProviderJob._ended

    async def interrupted(self: Any, id: str) -> Any:
        if next(looks) == 0:
            self.task.journal.tell("job", lm="student", job=id, status="running", ended=False)
            _thread.interrupt_main()
        return await state(self, id)

    monkeypatch.setattr(job.ProviderJob, "_ended", interrupted)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: asked, raising=False)
    monkeypatch.setattr(click, "confirm", lambda *words, **more: True)
    status, err = optimized(spec)
    assert status == 130 and "the fine-tuning job ftjob-0 of student goes on at its provider, and is paid for" in err, (
        err
    )
    assert ("the fine-tuning job ftjob-0 is cancelled" in err) == asked == ("cancelled" in server.jobs["ftjob-0"])
    server.stays = False
    status, err = optimized(spec, "--resume")
    assert (status, len(server.jobs)) == ((3, 1) if asked else (0, 1)), err


def test_the_cost_of_the_job_is_in_the_dry_run_and_in_what_was_spent(cli, desk, optimized, server, write) -> None:
    spec = desk()
    status, out, _ = cli("optimize", spec, "--dry-run")
    assert status == 0 and "the price of training 'student' (gpt-4.1-mini-2025-04-14) is unknown" in " ".join(
        out.split()
    )
    priced = spec.read_text().replace("params: {", "price: {input: 0.4, output: 1.6, training: 5}\n    params: {")
    write(priced)
    status, out, _ = cli("optimize", spec, "--dry-run", "--format", "json")
    part, before = json.loads(out)["parts"][:2]
    tokens = part["training"][0]["tokens"]
    # 32 rows, 3 epochs, at most so many tokens of prompt and reply each.
    assert tokens % (32 * 3) == 0 and part["training"][0]["usd"] == pytest.approx(tokens * 5e-6)
    assert part["usd"] > part["training"][0]["usd"] > part["estimate"]["training"][0]["usd"] > 0
    status, err = optimized(spec)
    assert status == 0 and "the job trained on" in err, err
    trained = json.loads((spec.parent / "run/report.json").read_text())["spent"]["usd"]
    assert trained > 0.009
    # The prices of OpenAI are used at OpenAI's address alone, and dated; replies of the tuned model have a price of their own.
    write(
        priced.replace('api_base: "${{ env.FT_BASE }}"', "context: 1000").replace(
            "price: {input: 0.4, output: 1.6, training: 5}", ""
        )
    )
    status, out, _ = cli("optimize", spec, "--dry-run", "--format", "json")
    found = json.loads(out)
    both = next(part for part in found["parts"] if part["name"].startswith("dev before"))
    assert found["unknown"] == [] and both["usd"] == pytest.approx(1.5 * before["usd"])
    status, out, _ = cli("optimize", spec, "--dry-run")
    assert "($5 for a million tokens of training gpt-4.1-mini-2025-04-14, OpenAI's of 2025-08-01 price)" in " ".join(
        out.split()
    )


def test_a_budget_in_usd_is_kept_before_anything_is_sent(desk, optimized, server) -> None:
    price = "price: {input: 0.4, output: 1.6, training: 5}\n    params: {"
    status, err = optimized(desk(**{"params: {": price}), "--budget", "usd=0.009")
    assert status == 0 and "the fine-tuning job of student costs about $0.0" in err, err
    assert not server.asked


def test_a_budget_in_usd_wants_the_price_of_the_tuned_model_before_anything_is_sent(desk, optimized, server) -> None:
    # The table has tuned models under their dated names alone.
    server.tuned["gpt-4.1-mini"] = {}
    spec = desk(**{f"openai/{BASE}": "openai/gpt-4.1-mini", "params: {": "price: {training: 5}\n    params: {"})
    status, err = optimized(spec, "--budget", "usd=5")
    assert status == 2 and "price of calls of what comes out of gpt-4.1-mini is unknown" in err, err
    assert not server.asked


def test_a_model_that_no_budget_is_left_to_score_is_named(desk, optimized, server) -> None:
    status, err = optimized(desk(), "--budget", "lm_calls=31")
    assert status == 0 and f"openai/ft:{BASE}:acme::0 has come out of the job, and is not scored" in err, err


def test_a_bound_model_is_trained_and_the_overlay_stands_above_the_binding(cli, desk, optimized, server) -> None:
    spec = desk(**{f"openai/{BASE}": "openai/other"})
    status, err = optimized(spec, "--lm", f"student=openai/{BASE}")
    assert status == 0, err
    assert overlay_of(spec)["lms"]["student"]["model"] == f"openai/ft:{BASE}:acme::0"


def test_the_model_that_comes_out_is_trusted_as_its_base_was(cli, desk, optimized, server) -> None:
    private = {"inputs: {text: str}\nlms": "inputs: {text: {type: str, private: true}}\nlms"}
    spec = desk(**private)
    assert optimized(spec)[0] == 1  # private values would reach an untrusted provider
    spec = desk(**private, **{"params: {max": "trusted: true\n    params: {max"})
    status, err = optimized(spec)
    assert status == 0, err
    assert overlay_of(spec)["lms"]["student"] == {"model": f"openai/ft:{BASE}:acme::0", "trusted": True}
    assert cli("check", spec.with_name("program.tuned.yaml"))[0] == 0


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch, server) -> None:
    monkeypatch.setenv("AZURE_API_VERSION", "2024-10-21")


def test_azure_is_asked_in_its_own_way_and_names_the_deployment_that_it_wants(desk, optimized, server, azure) -> None:
    pytest.importorskip("litellm", reason="needs the extra 'providers'")
    server.says = "fruit"
    spec = desk(
        **{
            f"openai/{BASE}": "azure/deployed",
            "{samples: 0, labelled: 40}": f"{{samples: 0, labelled: 40, job: {{model: {BASE}, epochs: 2}}}}",
        }
    )
    spec.write_text(spec.read_text().replace('"${{ env.FT_BASE }}"', f'"{server.address}"'))
    server.file_statuses = ["pending", "running"]
    server.tuned = _Hidden()
    status, err = optimized(spec)
    assert status == 3 and "deploy the model ft:" in err.splitlines()[-1] and "--resume" in err.splitlines()[-1], err
    assert server.bodies[0]["hyperparameters"] == {"n_epochs": 2} and server.bodies[0]["trainingType"] == 1
    assert all(headers["api-key"] == KEY for headers in server.headers if "api-key" in headers)
    server.tuned = dict(server.tuned)
    status, err = optimized(spec, "--resume")
    assert status == 0 and len(server.jobs) == 1, err
    assert overlay_of(spec)["lms"]["student"]["model"] == f"azure/ft:{BASE}:acme::0"


class _Hidden(dict[str, dict[str, str]]):
    """Tuned models that nobody has deployed."""

    def __contains__(self, name: object) -> bool:
        return False


POINTS = {
    "before the file is stored": ("refusing", "POST /files", 0, 0),
    "after the file was stored": ("hanging", "POST /files", 1, 0),
    "before the job is started": ("refusing", "POST /fine_tuning/jobs", 1, 0),
    "after the job was started": ("hanging", "POST /fine_tuning/jobs", 1, 1),
    "while the job is at work": ("hanging", "GET /fine_tuning/jobs/", 1, 1),
}
"""Places at which a process is killed, one after the other in one run: the request at work, and the files and jobs by then."""


@pytest.mark.kill
def test_a_run_that_is_killed_anywhere_goes_on_with_the_same_file_and_job(desk, optimized, server) -> None:
    import signal
    import subprocess
    import sys

    spec = desk()
    main = "from lmprog.cli.main import main; main()"
    run = [sys.executable, "-c", main, "optimize", str(spec), "--run-dir", str(spec.parent / "run")]
    for number, (where, (kind, place, files, jobs)) in enumerate(POINTS.items()):
        getattr(server, kind).add(place)
        server.arrived.clear()
        process = subprocess.Popen([*run, *(["--resume"] if number else [])], stderr=subprocess.PIPE)
        try:
            assert server.arrived.wait(60), where
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        getattr(server, kind).clear()
        assert (len(server.files), len(server.jobs)) == (files, jobs), where
    status, err = optimized(spec, "--resume")
    assert status == 0, err
    assert len(server.files) == len(server.jobs) == 1 and overlay_of(spec)["lms"]["student"]["model"].endswith("::0")
