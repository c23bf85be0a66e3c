"""An optimizer of another package: built and installed as users do, then named as a stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77", reason="builds the package without fetching a newer setuptools")

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-c", "from lmprog.cli.main import main; main()"]
PROJECT = """
    [build-system]
    requires = ["setuptools"]
    build-backend = "setuptools.build_meta"

    [project]
    name = "shouting"
    version = "0.1"

    [project.entry-points."lmprog.optimizers"]
    shout = "shouting:Shout"
    ask = "shouting:Ask"

    [tool.setuptools]
    py-modules = ["shouting"]
"""
CODE = '''
    """Writes the instructions of every tuned module in capitals, where dev rows like that better."""

    import asyncio
    from typing import Literal

    from pydantic import BaseModel, ConfigDict, Field

    from lmprog.compiler.bounds import calls
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.evaluation import START, CandidateEvaluator


    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        case: Literal["upper", "lower"] = "upper"
        marks: int = Field(1, ge=0)
        tries: int = Field(1, ge=1)


    class Shout:
        name = "shout"
        Config = Config
        tunes = {"instructions"}

        @staticmethod
        def runs(options, train, dev):
            return (1 + options["tries"]) * dev

        def __init__(self, config):
            self.config = config

        def most_calls(self, program, train, dev):
            return self.runs(self.config.model_dump(), train, dev) * calls(program.plan)

        def optimize(self, task):
            modules = task.program.plan.modules

            def louder(marks):
                words = {id: modules[id].instructions for id in task.program.plan.optimize.tune}
                return {id: getattr(text, self.config.case)() + "!" * marks for id, text in words.items()}

            async def run():
                evaluator = CandidateEvaluator(task)
                await evaluator.evaluate(START)
                for number in range(self.config.tries):
                    await evaluator.evaluate(Candidate(instructions=louder(self.config.marks + number)))
                return await evaluator.select(1)

            return asyncio.run(run())


    class Taught(Config):
        teachers: list[dict] = []


    class Ask(Shout):
        name = "ask"
        Config = Taught
        needs_proposer = True
        takes_teachers = True
'''
SPEC = """
    lmprog: 1
    name: asked
    lms: {{lm: {{model: openai/scripted, api_base: "{url}", api_key: none, trusted: true}}}}
    modules:
      say: {{lm: lm, inputs: {{text: str}}, outputs: {{reply: str}}, instructions: Answer.}}
    data: {{train: train.jsonl, dev: dev.jsonl}}
    metrics:
      right: {{python: "./metrics.py:right", with: {{reply: "${{{{ outputs.reply }}}}", text: "${{{{ row.text }}}}"}}}}
    optimize:
      metric: right
      accept: point
      tune: {{say: [instructions]}}
      stages:
        - shout: {options}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment with the package in it."""
    folder = tmp_path_factory.mktemp("second")
    for name, text in (("pyproject.toml", PROJECT), ("shouting.py", CODE)):
        (folder / name).write_text(textwrap.dedent(text).lstrip("\n"))
    target = folder / "site"
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", target, folder]
    subprocess.run([sys.executable, "-m", "pip", *map(str, install)], check=True, capture_output=True)
    assert list(target.glob("shouting-*.dist-info"))
    return {**os.environ, "PYTHONPATH": str(target)}


def lmprog(*arguments: object, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], env=env, cwd=cwd, capture_output=True, text=True)


def written(write, url: str, options: str) -> Path:
    for name, start in (("train", 0), ("dev", 100)):
        write(
            "".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(start, start + 24)),
            f"{name}.jsonl",
        )
    write("def right(reply, text):\n    return reply == 'heard ' + text\n", "metrics.py")
    return write(SPEC.format(url=url, options=options))


def test_an_optimizer_of_another_package_is_a_stage(write, provider, installed, tmp_path: Path) -> None:
    provider.otherwise = lambda text: f"heard {text}" if "ANSWER.!!" in system() else "what?"

    def system() -> str:
        return str(provider.requests[-1]["messages"][0]["content"])

    spec = written(write, provider.url, "{marks: 2}")
    spec.write_text(spec.read_text().replace("trusted: true}", "trusted: true, limits: {concurrency: 1}}"))
    done = lmprog("optimize", spec, "--run-dir", tmp_path / "run", "--format", "json", env=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (stage,) = json.loads(done.stdout)["stages"]
    assert stage["stage"] == "shout" and stage["validate"]["mean"] == 1.0
    assert "ANSWER.!!" in (tmp_path / "program.tuned.yaml").read_text()
    bound = lmprog("optimize", spec, "--dry-run", "--format", "json", env=installed, cwd=tmp_path)
    assert json.loads(bound.stdout)["most_lm_calls"]["shout"] == 48 == stage["lm_calls"]


@pytest.mark.parametrize(
    ("options", "message"),
    [("{mark: 2}", "has no key `mark`"), ("{case: title}", "must be upper or lower"), ("{marks: -1}", "at least 0")],
)
def test_its_options_are_checked(write, installed, tmp_path: Path, options: str, message: str) -> None:
    done = lmprog("check", written(write, "http://none.invalid", options), env=installed, cwd=tmp_path)
    assert done.returncode == 1 and "LMP101" in done.stdout and message in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[instructions]",
            "[demos]",
            "702 the stage `shout` writes instructions, and `tune` names the instructions of no",
        ),
        ("accept: point", "budget: {lm_calls: 95}", "502 the stages can take up to 96 LM calls, and the budget is 95"),
        ("shout: {tries: 3}", "ask", "702 the stage `ask` has no LM that writes instructions"),
        (
            "shout: {tries: 3}",
            "ask: {teachers: [{program: gone.yaml}]}",
            "103 a teacher names the file gone.yaml, which does not exist",
        ),
    ],
)
def test_its_facts_are_checked(write, installed, tmp_path: Path, old: str, new: str, message: str) -> None:
    spec = written(write, "http://none.invalid", "{tries: 3}")
    assert "no findings" in lmprog("check", spec, env=installed, cwd=tmp_path).stderr
    spec.write_text(spec.read_text().replace(old, new))
    done = lmprog("check", spec, "--format", "json", env=installed, cwd=tmp_path)
    found = [f"{each['code'].removeprefix('LMP')} {each['message']}" for each in json.loads(done.stdout)["findings"]]
    assert any(each.startswith(message) for each in found), found


def test_its_runs_are_counted_in_a_dry_run(write, installed, tmp_path: Path) -> None:
    """Each of its calls is one of a run: none is the proposer's, which would be the dearest by far."""
    spec = written(write, "http://none.invalid", "{tries: 3}")
    lms = "{{lm: {{model: openai/scripted, price: {{input: {0}, output: {0}}}, params: {{max_tokens: 8}}, context: 512}}, {1}}}"
    dear = "{model: openai/dear, price: {input: 1000, output: 1000}, params: {max_tokens: 8}, context: 512}"
    text = spec.read_text().replace("accept: point", "accept: point\n  proposer: writer")
    start = text.index("lms: ")
    text = text[:start] + "lms: " + lms.format(1, f"writer: {dear}") + text[text.index("\n", start) :]
    spec.write_text(text)
    done = lmprog("optimize", spec, "--dry-run", "--format", "json", env=installed, cwd=tmp_path)
    (stage, _) = json.loads(done.stdout)["parts"]
    # The context and the longest reply of 96 calls, at a dollar for a million tokens.
    assert stage["lm_calls"] == 96 and stage["usd"] == pytest.approx(96 * (512 + 8) / 1e6)


def test_without_the_package_the_stage_is_not_there(write, tmp_path: Path) -> None:
    done = lmprog("check", written(write, "http://none.invalid", "{}"), env=dict(os.environ), cwd=tmp_path)
    assert done.returncode == 1 and "there is no optimizer `shout`" in done.stdout
