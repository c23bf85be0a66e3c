"""`lmprog init`."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.compiler.yaml.whole_file import write_whole

if TYPE_CHECKING:
    from lmprog.starter.kinds import Kind

EMBEDDED = "embedded/smollm2-135m"
WORKFLOW = ".github/workflows/lmprog.yml"
HOOKS = ".pre-commit-config.yaml"
MOST_WIDTH = 76
"""Columns within which the comments beside commands are aligned."""
_MODEL = re.compile(r"[\w.-]+/[\w.:@/+-]+")
_ADDRESS = re.compile(r"https?://[^\s#]+")


@dataclass(frozen=True)
class Choice:
    """The choices of `lmprog init`: the kind of program, the name of its model, and the address of the model's server
    (`api_base`, None: the provider's).

    With `ci` (True for `--ci github`) a workflow is written that checks the program, with `hooks` a configuration of
    pre-commit.
    """

    kind: Kind
    model: str
    api_base: str | None
    ci: bool
    hooks: bool


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--kind", metavar="KIND", help="classify, extract, rag, agent, summary, critique, triage, sql or translate."
)
@click.option("--model", metavar="MODEL", help="The model, as openai/gpt-4.1-mini; default: the built-in one.")
@click.option("--api-base", metavar="URL", help="The address of a server of your own, as http://localhost:8000/v1.")
@click.option(
    "--ci", type=click.Choice(["github", "none"]), help="A workflow that checks each change; default: github."
)
@click.option("--hooks/--no-hooks", default=None, help="Check before each commit, with pre-commit; default: no.")
@click.option("--yes", is_flag=True, help="Ask nothing: take the defaults for what is not given.")
@click.option("--overwrite", is_flag=True, help="Write over files that exist.")
def command(
    folder: Path,
    kind: str | None,
    model: str | None,
    api_base: str | None,
    ci: str | None,
    hooks: bool | None,
    yes: bool,
    overwrite: bool,
) -> None:
    """Write a small working program into DIR: its data, a metric, a test, and a workflow that checks it.

    On a terminal it asks for the kind of program, the model, CI and hooks where they are not given; elsewhere, and with
    --yes, it takes the defaults. DIR is the current folder where it is left out. Nothing that exists is overwritten,
    unless --overwrite is given.

    \b
    lmprog init desk
    lmprog init questions --kind rag --model openai/gpt-4.1-mini --hooks
    lmprog init local --kind extract --model hosted_vllm/Qwen/Qwen3-4B --api-base http://localhost:8000/v1
    """
    if folder.suffix in (".yaml", ".yml") and not folder.exists():
        raise click.UsageError(
            f"DIR is a folder, and {folder} is named as a file; write lmprog init {folder.with_suffix('')}"
        )
    asks = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    choice = _choice(asks, kind, model, api_base, ci, hooks)
    written = _files(choice)
    taken = [name for name in written if (folder / name).exists() or (folder / name).is_symlink()]
    if taken and not overwrite:
        there = ", ".join(str(folder / name) for name in taken)
        verb, them = ("exists", "it") if len(taken) == 1 else ("exist", "them")
        if not (asks and click.confirm(f"{there} {verb} already; overwrite {them}?", err=True)):
            raise click.UsageError(
                f"{there} {verb} already, so nothing was written; name a new folder: lmprog init DIR, or add --overwrite"
            )
    _write(folder, written, taken)
    click.echo(_next(folder, choice))


def _choice(
    asks: bool, kind: str | None, model: str | None, api_base: str | None, ci: str | None, hooks: bool | None
) -> Choice:
    """Return the choices for the options (None: not given): with `asks` the user is asked for each that is not given, else it
    takes its default. Raises click.UsageError for an unknown kind or built-in model, a name that is no model, and an address
    that is none or belongs to a model of this process.
    """
    from lmprog.compiler.findings.finding import suggestion
    from lmprog.starter.kinds import KINDS

    if asks and kind is None:
        for each in KINDS.values():
            click.echo(f"  {each.name:10} {each.about}", err=True)
    name = kind or _ask(asks, "Kind of program", "classify", click.Choice(list(KINDS)))
    if name not in KINDS:
        raise click.UsageError(f"there is no kind {name!r}; {suggestion(name, list(KINDS), 'kinds')}")
    model = model or _ask(
        asks, "Model (as openai/gpt-4.1-mini, hosted_vllm/NAME; the built-in one needs no key)", EMBEDDED
    )
    if not _MODEL.fullmatch(model):
        raise click.UsageError(
            f"{model!r} names no model; write provider/name, as {EMBEDDED}, openai/gpt-4.1-mini or hosted_vllm/Qwen/Qwen3-4B"
        )
    if model.startswith("embedded/") and model != EMBEDDED:
        raise click.UsageError(f"there is no built-in model {model!r}; the one that there is is {EMBEDDED}")
    if api_base is None and model.startswith("hosted_vllm/"):
        api_base = _ask(asks, "Address of the server", "http://localhost:8000/v1")
    if api_base is not None and not _ADDRESS.fullmatch(api_base):
        raise click.UsageError(f"{api_base!r} is no address of a server; write it as http://localhost:8000/v1")
    if api_base is not None and _is_local(model):
        raise click.UsageError(f"{model} runs in this process, so it has no address; leave --api-base out")
    ci = ci or _ask(asks, "CI", "github", click.Choice(["github", "none"]))
    if hooks is None:
        hooks = asks and click.confirm("Check before each commit, with pre-commit?", default=False, err=True)
    return Choice(KINDS[name], model, api_base, ci == "github", hooks)


def _ask(asks: bool, question: str, default: str, kind: click.Choice[str] | None = None) -> str:
    """Return the user's answer to a question on the terminal, one of `kind` (None: any text); without `asks` the default."""
    return str(click.prompt(question, default=default, type=kind, err=True)) if asks else default


def _is_local(model: str) -> bool:
    """Return whether a model runs in this process."""
    from lmprog.compiler.backends import backend_of

    return backend_of(model).local


def _files(choice: Choice) -> dict[str, bytes]:
    """Return the contents of the files to write, by their paths in the new folder: the program with its model, its data,
    `.gitignore`, and the workflow and hooks where they were chosen.
    """
    from lmprog.starter.kinds import ROOT
    from lmprog.starter.rewriting import with_model, with_open_tests

    kind, around = choice.kind, ROOT / "around"
    found = kind.files()
    text = found[kind.spec].decode()
    if kind.folder.startswith("gallery/"):
        text = with_open_tests(text)
    found[kind.spec] = with_model(text, choice.model, choice.api_base, kind.unread).encode()
    found[".gitignore"] = (around / "gitignore").read_bytes()
    if choice.ci:
        extras = f"'lmprog[{','.join(kind.extras)}]'" if kind.extras else "lmprog"
        workflow = (around / "workflow.yml").read_text(encoding="utf-8")
        workflow = workflow.replace("desk.yaml", kind.spec).replace("pip install lmprog", f"pip install {extras}")
        found[WORKFLOW] = workflow.encode()
    if choice.hooks:
        found[HOOKS] = (around / "pre-commit-config.yaml").read_bytes()
    return found


def _write(folder: Path, written: Mapping[str, bytes], taken: Sequence[str]) -> None:
    """Write the contents of files by their paths in `folder`, and name each on standard error. Only those in `taken` may
    replace a file; raises FileExistsError where another one is there.
    """
    for name, content in written.items():
        path = folder / name
        write_whole(path, content, new=name not in taken)
        click.echo(f"wrote {path}", err=True)


def _next(folder: Path, choice: Choice) -> str:
    """Return the text that is printed at the end: the commands to try next with the files that were written, each with what
    it needs or does.
    """
    spec = shlex.quote(str(folder / choice.kind.spec))
    asked = _one_run(choice, folder)
    commands = [
        (f"lmprog check {spec}", ""),
        (f"lmprog run {spec} --fake {asked}", "no model is asked"),
        (f"lmprog run {spec} {asked}", _needs(choice)),
        (f"lmprog test {spec}", "its tests; --record, --replay for CI"),
        (f"lmprog optimize {spec} --dry-run", "what tuning it would cost"),
    ]
    width = min(MOST_WIDTH, max(len(command) for command, _ in commands))
    lines = ["Next:", *(f"  {command:{width}}    # {why}" if why else f"  {command}" for command, why in commands)]
    if not choice.kind.small and choice.model == EMBEDDED:
        lines.append(f"The built-in model is too small to do this well; name another at `model:` in {spec}.")
    lines += _to_move(folder, choice)
    if choice.hooks:
        lines.append("The hook: pip install pre-commit && pre-commit install")
    return "\n".join(lines)


def _one_run(choice: Choice, folder: Path) -> str:
    """Return the arguments of `lmprog run` for the inputs of the program's first test that has any, or for its dev rows where
    one of these is no short text.
    """
    import yaml

    tests: dict[str, Any] = yaml.safe_load(choice.kind.files()[choice.kind.spec])["tests"]
    inputs = next(test["inputs"] for test in tests.values() if "inputs" in test)
    if all(isinstance(value, str) and len(value) < 100 for value in inputs.values()):
        shown = {"message": "Are you open on Sunday?"} if choice.kind.name == "classify" else inputs
        return " ".join(f"--input {name}={shlex.quote(value)}" for name, value in shown.items())
    return f"--inputs {shlex.quote(str(folder / 'dev.jsonl'))} --out answers.jsonl"


def _needs(choice: Choice) -> str:
    """Return a remark on what a run with the model needs: extras to be installed, a server or a key; empty where nothing."""
    from lmprog.compiler.provider_keys import KEYS

    provider = choice.model.partition("/")[0]
    extras = list(choice.kind.extras)
    needs = []
    if _is_local(choice.model):
        extras.insert(0, "local")
    elif provider not in ("openai", "hosted_vllm"):
        extras.insert(0, "providers")
    if extras:
        needs.append(f"lmprog[{','.join(extras)}]")
    if choice.api_base is not None:
        needs.append(f"the server at {choice.api_base}")
    elif provider in KEYS:
        needs.append(KEYS[provider][0])
    return f"needs {' and '.join(needs)}" if needs else ""


def _to_move(folder: Path, choice: Choice) -> list[str]:
    """Return sentences on the workflow and hooks that must be moved to the top of the git repository around the folder; empty
    where there is none, or the folder is its top.
    """
    above = next((parent for parent in folder.resolve().parents if (parent / ".git").exists()), None)
    if above is None or (folder / ".git").exists():
        return []
    readers = {"GitHub reads workflows": WORKFLOW} if choice.ci else {}
    readers |= {"pre-commit reads its configuration": HOOKS} if choice.hooks else {}
    return [
        f"{reader} at the top of a repository: move {folder / file} to {above}, and mend its paths."
        for reader, file in readers.items()
    ]
