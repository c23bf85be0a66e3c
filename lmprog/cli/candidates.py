"""`lmprog candidates`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lmprog.cli.options import output_format


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--diff", is_flag=True, help="Show how the words of each differ from those it was derived from.")
@output_format("text", "json")
def command(run_dir: Path, diff: bool, style: str) -> None:
    """Show the candidates of an optimization in RUN_DIR as trees, with their scores on dev rows; the winner is marked.

    Reads what `lmprog optimize` has written, also while it is at work. Scores are of the rows that a stage searches with;
    what is kept at the end is decided on others, and said by `optimize`.

    \b
    lmprog optimize program.yaml --run-dir runs/first
    lmprog candidates runs/first --diff
    """
    from lmprog.cli.progress import print_candidates
    from lmprog.optimizers.journal.lineage import read_trees
    from lmprog.reports.candidates import changes
    from lmprog.state.json_lines import PassedOver

    passed_over = PassedOver()
    trees = read_trees(run_dir, passed_over)
    if passed_over:
        click.echo(f"journal.jsonl: {passed_over}", err=True)
    if style == "text":
        print_candidates(trees, diff)
        return
    stages = [
        {
            "stage": tree.stage,
            "ended": tree.ended,
            "changed": tree.changed,
            "steps": [{"step": step, "score": score} for step, score in tree.steps.items()],
            "candidates": [
                {**entry.as_json(), **({"diff": changes(tree, entry)} if diff and entry.parents else {})}
                for entry in tree.entries.values()
            ],
        }
        for tree in trees
    ]
    click.echo(json.dumps({"run_dir": str(run_dir), "stages": stages}))
