"""`lmprog export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.options import SPEC, overriding

if TYPE_CHECKING:
    from lmprog.compiler.plan import Plan

FORMS = ("messages", "jinja", "langchain", "python")
"""The forms of text, each an option of its own."""


def _forms(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with a flag for each form of text, passed to it together as `forms`, the names that were given."""
    told = {
        "messages": "Write the requests as JSON, in the form of chat completions; texts are Jinja templates.",
        "jinja": "Write each prompt as a Jinja template that renders to its messages as JSON.",
        "langchain": "Write each prompt as a ChatPromptTemplate of LangChain, in a Python file.",
        "python": "Write each prompt as a Python function that returns the body of a request.",
    }
    for form in reversed(FORMS):
        command = click.option(f"--{form}", "forms", flag_value=form, multiple=True, help=told[form])(command)
    return command


@click.command()
@SPEC
@overriding
@_forms
@click.option(
    "--merged",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write weights with the adapters merged in; a new or empty folder.",
)
@click.option("--module", help="Only this module.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="The file to write, for --jinja the folder; default: standard output.",
)
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    forms: tuple[str, ...],
    folder: Path | None,
    module: str | None,
    out: Path | None,
) -> None:
    """Write what was tuned in SPEC for use without lmprog: its prompts as text, or its weights as models.

    \b
    lmprog export program.tuned.yaml --python -o prompts.py
    lmprog export program.tuned.yaml --messages
    lmprog export program.tuned.yaml --merged models/desk
    lmprog run program.yaml --lm student=hf/models/desk --input text=hello

    The texts give the same requests as lmprog sends, with instructions, demos and the format of the reply, but for seed and
    cache marks. The steps between the modules are in a comment; what else is left out is said there and on standard error.

    With --merged each adapter gives one model, in DIR itself; several give a folder in DIR each, named by the LM, or by the
    module for an adapter of its own. A folder holds weights (safetensors), tokenizer, and lmprog.json with the digests of what
    it was made of. That reads no data and runs no user code.
    """
    if len(forms) + (folder is not None) != 1:
        raise click.UsageError(f"name one form: {', '.join(f'--{form}' for form in FORMS)} or --merged DIR")
    if folder is None:
        _write_text(spec, lms, overrides, forms[0], module, out)
    elif module is not None or out is not None:
        raise click.UsageError("--merged DIR names its folder itself, and takes neither --module nor --out")
    else:
        _write_weights(spec, lms, overrides, folder)


def _write_text(
    spec: Path, lms: dict[str, str], overrides: dict[str, Any], form: str, module: str | None, out: Path | None
) -> None:
    """Write the prompts of a program, or of one module (None: all), as text to the new file or folder `out` (None: standard
    output), and say what is left out. Raises click.UsageError where `out` exists, but for an empty folder of Jinja files.
    """
    from lmprog.compiler.yaml.whole_file import write_all
    from lmprog.exporting.texts import exported_texts

    if out is not None and out.exists() and (form != "jinja" or not out.is_dir() or any(out.iterdir())):
        raise click.UsageError(f"{out} exists already, so nothing was written; name another with -o")
    plan = _compiled(spec, lms, overrides, weights=False)
    made = exported_texts(plan, form, module)
    for note in made.notes:
        click.echo(f"{spec}: not exported: {note}", err=True)
    if out is None:
        click.echo("\n".join(text for text in made.texts.values()), nl=False)
        return
    files = {out / name if form == "jinja" else out: text for name, text in made.texts.items()}
    write_all(files, new=True)
    click.echo(f"wrote {', '.join(map(str, files))}", err=True)


def _write_weights(spec: Path, lms: dict[str, str], overrides: dict[str, Any], folder: Path) -> None:
    """Write the weights of a program with their adapters merged in below `folder`, and name each model on standard error."""
    from lmprog.lms.merging import write_merged

    plan = _compiled(spec, lms, overrides, weights=True)
    for merge, target in write_merged(plan, folder):
        use = f"the modules {', '.join(merge.modules)}" if len(merge.modules) > 1 else f"the module {merge.modules[0]}"
        click.echo(f"wrote {target}; for {use} write model: hf/{target}", err=True)


def _compiled(spec: Path, lms: dict[str, str], overrides: dict[str, Any], *, weights: bool) -> Plan:
    """Return the plan of a program; with `weights`, for its weights alone, no data is read and no user code is run. Raises
    SpecError where it has errors.
    """
    from lmprog.compiler import SpecError, compile_file

    found = compile_file(spec, overrides=overrides, lms=lms, imports=not weights, data=not weights)
    if found.plan is None:
        raise SpecError(found.findings)
    return found.plan
