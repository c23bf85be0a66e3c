"""The candidates of a run as trees: what each was derived from, what it scored, which was kept, what changed in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lmprog
from lmprog.lms.lm import Completion
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.journal.lineage import read_trees, remember
from lmprog.reports.candidates import changes
from lmprog.scoring.statistics import estimate
from lmprog.spending.budget import Budget

STAGES = "  stages:\n    - prompt_search: {trials: 6, bootstrap_rows: 4, demos: [2], demo_sets: 2}\n"
GEPA = "  proposer: writer\n  stages:\n    - gepa: {max_metric_calls: 300, minibatch: 10}\n"
BOTH = STAGES + "    - bootstrap: {sets: 2, rows: 4}\n  instructions: {judge: [Divide by two., '{{ oops }']}\n"


class Steps:
    """Knows a third of the even numbers with `threes`, all with `twos`; as a writer it proposes both, in this order."""

    def __init__(self) -> None:
        self.proposed = 0

    async def complete(self, request) -> Completion:
        said = request.messages[-1]["content"]
        if not said.isdigit():
            self.proposed += 1
            return Completion(f"```\n{('Look at threes.', 'Look at twos.')[self.proposed > 1]}\n```")
        words = " ".join(str(message["content"]) for message in request.messages).lower()
        number = int(said)
        knows = "twos" in words or "divide by two" in words or ("threes" in words and number % 3 == 0)
        return Completion(("odd", "even")[knows and number % 2 == 0])


def optimized(spec: Path, folder: Path, **how) -> Path:
    lm = Steps()
    lmprog.optimize(spec, lms={"judge": lm, "writer": lm}, run_dir=folder, out=folder / "out.yaml", **how)
    return folder


def test_gepa_candidates_stand_below_what_they_were_reflected_from(write_spec, tmp_path: Path, cli) -> None:
    run_dir = optimized(write_spec((STAGES, GEPA)), tmp_path / "run")
    (tree,) = read_trees(run_dir)
    start = tree.start
    assert start is not None and not start.wins and start.words.instructions == {"judge": "Say something."}
    (threes,) = tree.children(start)
    (twos,) = tree.children(threes)
    assert (threes.words.instructions, twos.words.instructions) == (
        {"judge": "Look at threes."},
        {"judge": "Look at twos."},
    )
    assert twos.wins and not threes.wins and twos.score["mean"] == 1.0 > threes.score["mean"] > start.score["mean"]
    assert twos.score["ci95"][0] < 1.0 and twos.rows == 10
    assert [line for line in changes(tree, twos) if line[0] in "+-"] == [
        "--- a/modules.judge.instructions",
        "+++ b/modules.judge.instructions",
        "-Look at threes.",
        "+Look at twos.",
    ]
    status, out, err = cli("candidates", run_dir, "--diff")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    kept = next(line for line in lines if "<- chosen" in line)
    assert twos.digest[:8] in kept and "100.0%" in kept and "of 10 rows" in kept
    assert any(line.endswith("-Look at threes.") for line in lines)


def test_each_stage_has_its_tree_and_the_refused_are_in_it(write_spec, tmp_path: Path, cli) -> None:
    spec = write_spec((STAGES, BOTH.replace("'{{ oops }'", "'" + "word " * 6000 + "'")))
    run_dir = optimized(spec, tmp_path / "run")
    search, bootstrap = read_trees(run_dir)
    (kept,) = (entry for entry in search.entries.values() if entry.wins)
    assert kept.words.instructions == {"judge": "Divide by two."} and list(kept.parents) == [START.digest]
    assert any("LMP501" in (entry.refused or "") for entry in search.entries.values())
    # The second stage starts from the first's winner, and finds nothing better.
    assert bootstrap.start is not None and bootstrap.start.wins
    assert bootstrap.start.words.instructions == {"judge": "Divide by two."}
    demos = next(entry for entry in bootstrap.entries.values() if entry.parents)
    assert any(line.startswith("+- number: 10") for line in changes(bootstrap, demos))
    said = json.loads(cli("candidates", run_dir, "--format", "json", "--diff")[1])
    assert [stage["stage"] for stage in said["stages"]] == ["1-prompt_search", "2-bootstrap"]
    assert sum(entry["wins"] for stage in said["stages"] for entry in stage["candidates"]) == 2
    shown = cli("candidates", run_dir)[1]
    assert "chosen: stays as it is" in shown and "error: the prompt of module `judge` has at least" in shown


def test_a_resumed_run_keeps_each_candidate_once(write_spec, tmp_path: Path) -> None:
    spec, run_dir = write_spec((STAGES, GEPA)), tmp_path / "run"
    optimized(spec, run_dir)
    whole = read_trees(run_dir)
    lines = (run_dir / "journal.jsonl").read_text().splitlines(keepends=True)
    third = [place for place, line in enumerate(lines) if "/candidate/" in line][1]
    (run_dir / "journal.jsonl").write_text("".join(lines[: third + 1]))
    assert not read_trees(run_dir)[0].ended
    optimized(spec, run_dir, resume=True)
    assert read_trees(run_dir) == whole
    assert (run_dir / "journal.jsonl").read_text().count("/candidate/") == 3


def test_a_folder_without_a_run_is_named(cli, tmp_path: Path) -> None:
    status, out, err = cli("candidates", tmp_path)
    assert (status, out) == (2, "") and "there is no run in" in err


@pytest.mark.parametrize("cut", [0, 1])
def test_a_run_that_was_cut_before_anything_was_scored(write_spec, tmp_path: Path, cli, cut: int) -> None:
    run_dir = optimized(write_spec((STAGES, GEPA)), tmp_path / "run")
    lines = (run_dir / "journal.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "journal.jsonl").write_text("".join(lines[:cut]))
    assert cli("candidates", run_dir)[0] == 0


def test_a_merged_candidate_names_both_that_it_is_of(program, tmp_path: Path, cli) -> None:
    plan = program(
        """
        inputs: {text: str}
        modules:
          sort: {lm: lm, inputs: {text: str}, outputs: {label: str}, instructions: Sort.}
        data: {train: rows.jsonl, dev: rows.jsonl}
        metrics: {m: {value: "1.0"}}
        optimize: {metric: m, tune: {sort: [instructions, demos]}, stages: [bootstrap]}
        """,
        rows__jsonl='{"text": "a"}\n',
    ).plan
    journal = Journal(tmp_path / "run")
    journal.record("stage_started", number=1, of=1, name="gepa")
    within = journal.within("1-gepa", Budget({}))
    left, right = (Candidate(instructions={"sort": f"Sort {way}.\x1b[2J"}) for way in ("left", "right"))
    merged = Candidate(instructions={"sort": "Sort both ways."})
    for candidate, parents in ((START, ()), (left, (START,)), (right, (START,)), (merged, (left, right))):
        remember(within, plan, candidate, parents, estimate([0.0, 1.0]))
    remember(within, plan, left, (START,), estimate([1.0, 1.0, 1.0]))
    journal.close()
    (tree,) = read_trees(tmp_path / "run")
    assert [entry.rows for entry in tree.entries.values()] == [2, 3, 2, 2]
    (below,) = tree.children(tree.entries[left.digest])
    assert below.digest == merged.digest and not tree.children(tree.entries[right.digest])
    shown = cli("candidates", tmp_path / "run", "--diff")[1]
    assert f"merged with {right.digest[:8]}" in shown
    assert "-Sort left.\\u001b[2J" in shown and "\x1b" not in shown


def test_a_stage_of_weights_shows_its_steps(tmp_path: Path, cli) -> None:
    journal = Journal(tmp_path / "run")
    journal.record("stage_started", number=1, of=1, name="grpo")
    within = journal.within("1-grpo", Budget({}))
    for step, values in ((0, [0.0, 1.0]), (10, [1.0, 1.0]), (10, [1.0, 1.0])):
        within.record("dev", step=step, score=estimate(values).as_json())
    adapters = {"lm": {"path": "adapter", "sha256": "abc"}}
    shown = cli("candidates", tmp_path / "run")[1]
    assert "dev at step 0: 50.0%" in shown and shown.count("step 10: 100.0%") == 1 and "kept" not in shown
    journal.keep("stage/1-grpo", {"candidate": Candidate(adapters=adapters).as_json()})
    journal.close()
    assert "<- chosen" in cli("candidates", tmp_path / "run")[1]
    (stage,) = json.loads(cli("candidates", tmp_path / "run", "--format", "json")[1])["stages"]
    assert stage["changed"] and [step["step"] for step in stage["steps"]] == [0, 10]
