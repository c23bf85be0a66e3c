"""`lmprog push`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.options import SPEC, overriding
from lmprog.compiler.trust.private import holds_private
from lmprog.errors import LmprogError, UsageError

if TYPE_CHECKING:
    from lmprog.compiler.plan import Plan
    from lmprog.lms.merging import Merge


@click.command()
@SPEC
@click.argument("target")
@overriding
@click.option("--adapter", "name", help="The adapter to push, by its LM or module, where there are several.")
@click.option("--public", is_flag=True, help="Make a new repository public; default: private.")
@click.option("--license", "license", metavar="ID", help="The licence in the card, as the Hub names it: apache-2.0.")
@click.option("--dry-run", is_flag=True, help="Print the card; send nothing.")
def command(
    spec: Path,
    target: str,
    lms: dict[str, str],
    overrides: dict[str, Any],
    name: str | None,
    public: bool,
    license: str | None,
    dry_run: bool,
) -> None:
    """Put the tuned adapter of SPEC, an overlay, into a repository of the Hugging Face Hub, with a model card.

    \b
    lmprog push program.tuned.yaml hf://ORGANIZATION/NAME --dry-run
    lmprog push program.tuned.yaml hf://ORGANIZATION/NAME --license apache-2.0

    The card says what the adapter was tuned from, on how many rows, and what it scored; no value of a row stands in it. The
    token is that of HF_TOKEN or of `hf auth login`, the address that of HF_ENDPOINT. Reads no data but to count the train
    rows, and runs no user code.
    """
    from lmprog.compiler import SpecError, compile_file
    from lmprog.lms import hub
    from lmprog.lms.adapter_files import CONFIG, WEIGHTS, checked_folder, config_for
    from lmprog.reports.model_card import Tuning, card

    reference = hub.reference_of(target, "the target")
    found = compile_file(spec, overrides=overrides, lms=lms, imports=False, data=False)
    if found.plan is None:
        raise SpecError(found.findings)
    plan = found.plan
    merge = _chosen(plan, name)
    folder, sha256 = checked_folder(merge.adapter)
    tuning = Tuning(plan, merge, sha256, _train_rows(plan), license)
    text = card(tuning)
    if dry_run:
        click.echo(text, nl=False)
        return
    _refuse_private(plan, public or hub.is_public(reference) is True)
    content: dict[str, bytes | Path] = {
        "README.md": text.encode(),
        CONFIG: config_for(folder, tuning.base or tuning.base_name),
        WEIGHTS: folder / WEIGHTS,
    }
    pushed = hub.push(content, reference, public=public, message=f"Add the adapter of {merge.name} of {plan.name}")
    click.echo(f"pushed to {pushed.address}", err=True)
    click.echo(f"adapter: {{path: {pushed.reference}, sha256: {sha256}}}")


def _chosen(plan: Plan, name: str | None) -> Merge:
    """Return the adapter to push, with the model that it belongs to: the one of the LM or module `name` (None: the only one).
    Raises UsageError where the program has no adapter, none of this name, or several and none is named.
    """
    from lmprog.lms.merging import merges_of

    adapters = [*(lm.adapter for lm in plan.lms.values()), *(module.adapter for module in plan.modules.values())]
    if not plan.members and not any(adapters):
        there = next((lm for lm in plan.lms.values() if lm.finetunes), None)
        fix = "name the overlay of a program whose weights `lmprog optimize` has tuned"
        if there is not None:
            fix = f"the weights of {there.id!r} ({there.model}) are its provider's, and stay there"
        raise UsageError(f"{plan.name} has no adapter to push; {fix}")
    found = {merge.name: merge for merge in merges_of(plan)}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        which = "has several adapters" if name is None else f"has no adapter {name!r}"
        raise UsageError(f"{plan.name} {which}; name one with --adapter, of {', '.join(found)}")
    return found[name]


def _train_rows(plan: Plan) -> int | None:
    """Return the number of rows of the split that `optimize` trains on; None without `optimize`, and where the rows
    cannot be read.
    """
    from lmprog.scoring.data import rows_of

    try:
        return len(rows_of(plan, plan.optimize.train)) if plan.optimize is not None else None
    except LmprogError:
        return None


def _refuse_private(plan: Plan, public: bool) -> None:
    """Raise UsageError where the repository is `public`, the program has private values, which its weights may have learnt, and
    `optimize: declassify` gives no reason why they may be read.
    """
    reason = plan.optimize.declassify if plan.optimize is not None else None
    if public and not reason and holds_private(plan):
        raise UsageError(
            f"{plan.name} has private values, which the weights may have learnt, and anybody can read that repository; push to "
            "a private one, or say in optimize: declassify: why the rows may be read"
        )
