"""`lmprog check`, and the report of findings before an optimization."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.boundary.terminal import echo_coloured
from lmprog.cli.options import NO_IMPORT, also, output_format, overriding
from lmprog.compiler.yaml.whole_file import write_all

if TYPE_CHECKING:
    from lmprog.compiler import Finding

ROUNDS = 10
"""The most times that `--fix` changes files and checks them again: a mended key can show what was hidden behind it."""


@click.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@overriding
@output_format("text", "json", "github", "sarif", "junit", "markdown")
@also("json", "sarif", "junit", "markdown")
@click.option("--strict", is_flag=True, help="Warnings too make the exit status 1.")
@NO_IMPORT
@click.option(
    "--only-programs",
    is_flag=True,
    help="Pass over files without the key `lmprog:`, as hooks that name every YAML file do.",
)
@click.option("--fix", is_flag=True, help="Make the safe changes in the files, then report what is left.")
@click.option("--diff", is_flag=True, help="Print the safe changes as a unified diff, and change nothing.")
@click.option(
    "--watch", is_flag=True, help="Go on: check again when a file that a program reads changes. Ctrl-C ends it."
)
def command(
    specs: tuple[Path, ...],
    lms: dict[str, str],
    overrides: dict[str, Any],
    style: str,
    also: dict[str, Path],
    strict: bool,
    no_import: bool,
    only_programs: bool,
    fix: bool,
    diff: bool,
    watch: bool,
) -> None:
    """Compile SPECS and report findings with their place and a fix. Starts no LM. Of a folder, all programs below it.

    \b
    lmprog check program.yaml
    lmprog check specs/ --watch                          # again when a file changes
    lmprog check specs/*.yaml --format github --strict
    lmprog check program.yaml --diff                     # what --fix would change
    """
    if fix and diff:
        raise click.UsageError("--fix changes the files and --diff leaves them; name one of the two")
    if diff and style != "text":
        raise click.UsageError(f"--diff prints a diff, so it cannot be --format {style} as well")

    if diff and also:
        raise click.UsageError("--diff prints a diff and nothing else; leave --also out")
    if watch and (fix or diff or also or style != "text"):
        raise click.UsageError(
            "--watch shows findings as text, again and again; leave --fix, --diff, --also and --format out"
        )

    def programs() -> list[Path]:
        return _programs(specs, not no_import, only_programs)

    def found() -> list[Finding]:
        return _findings(programs(), overrides, lms, not no_import)

    if watch:
        from lmprog.cli.watching import watch as follow

        def look() -> str:
            try:
                findings = found()
            except click.UsageError as error:  # an editor may replace the only program of a folder
                return error.format_message()
            _report(findings, style)
            return f"{_counted(len(programs()))}: {len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'}"

        programs()  # a folder without programs is wrong usage when the watch begins
        follow(look, specs)

    findings = found()
    if diff:
        click.echo(_changes(findings), nl=False)
        safe = len(_in_files(findings))
        click.echo(f"{len(findings)} findings, {safe} with a safe change; nothing was written", err=True)
        sys.exit(_status(findings, strict))
    for _ in range(ROUNDS if fix else 0):
        if not _fixed(findings):
            break
        findings = found()
    _report(findings, style)
    for name, file in also.items():
        write_all({file: importlib.import_module(f"lmprog.reports.{name}").render(findings)})
    if style == "text" and not findings:
        click.echo(f"{_counted(len(programs()))}: no findings", err=True)
    sys.exit(_status(findings, strict))


def _counted(programs: int) -> str:
    """Return a number of programs in words, as `2 programs`."""
    return f"{programs} program{'' if programs == 1 else 's'}"


def _programs(named: Sequence[Path], imports: bool, only_programs: bool) -> list[Path]:
    """Return the files in `named`, and the programs below its folders, each once. With `imports` False a folder that a link
    leads to outside of the checkout is named itself, not looked through; with `only_programs` files without the key
    `lmprog:` are left out. Raises click.UsageError for a folder without programs.
    """
    from lmprog.compiler.yaml.files import refusal, root_of
    from lmprog.compiler.yaml.program_files import is_program, yaml_files

    found: dict[Path, None] = {}
    for path in named:
        # A link to a folder outside of a stranger's checkout is no folder to look through: the compiler refuses it by its name.
        if path.is_dir() and (imports or refusal(path, root_of(path)) is None):
            below = [file for file in yaml_files(path) if is_program(file, imports)]
            if not below:
                raise click.UsageError(f"{path} holds no program: no YAML file below it has the key `lmprog`")
            found |= dict.fromkeys(below)
        elif not only_programs or is_program(path, imports):
            found[path] = None
    return list(found)


def _findings(specs: Sequence[Path], overrides: dict[str, Any], lms: dict[str, str], imports: bool) -> list[Finding]:
    """Return the findings of all programs, each once: two programs can share a base or a sub-program. `overrides` are the
    values of `--set`, `lms` the models of `--lm`; with `imports` False no user code is imported, and only files of a
    program's checkout are read.
    """
    from lmprog.compiler import compile_file
    from lmprog.optimizers.optimizer import installed, options_of

    found: dict[Finding, None] = {}
    for spec in specs:
        compiled = compile_file(
            spec,
            overrides=overrides,
            lms=lms,
            imports=imports,
            stage_configs=options_of,
            stage_names=installed,
            confined=not imports,
        )
        found.update(dict.fromkeys(compiled.findings))
    return list(found)


def _report(findings: Sequence[Finding], style: str) -> None:
    """Print the findings on standard output in the form `style`; text without findings prints nothing."""
    options: dict[str, Any] = {}
    if style == "text":
        options["colour"] = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = importlib.import_module(f"lmprog.reports.{style}").render(findings, **options)
    if text:
        (echo_coloured if style == "text" else click.echo)(text.rstrip("\n"))


def _status(findings: Sequence[Finding], strict: bool) -> int:
    """Return the exit status: 1 where there is an error, or with `strict` a warning, else 0."""
    failing = ("error", "warning") if strict else ("error",)
    return 1 if any(finding.severity in failing for finding in findings) else 0


def _in_files(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that have a safe change of a file that exists; one in a command-line option has none."""
    return [finding for finding in findings if finding.edit is not None and Path(finding.file).is_file()]


def _changes(findings: Sequence[Finding]) -> str:
    """Return the safe changes of the findings as a unified diff; empty where there are none."""
    from lmprog.compiler.findings.fixes import fixed_texts, unified

    return unified(fixed_texts(_in_files(findings)))


def _fixed(findings: Sequence[Finding]) -> bool:
    """Make the safe changes of the findings in their files, and say on standard error which files changed. Return whether
    any did.
    """
    from lmprog.compiler.findings.fixes import fixed_texts

    texts = fixed_texts(_in_files(findings))
    changed = {file: text for file, text in texts.items() if text != Path(file).read_text(encoding="utf-8")}
    _write(changed)
    for file in changed:
        click.echo(f"fixed {file}", err=True)
    return bool(changed)


def _write(texts: Mapping[str, str]) -> None:
    """Write texts to existing files by their paths, each whole or not at all, with `\\r\\n` as line ends where the file
    has any.
    """
    written = {}
    for file, text in texts.items():
        path = Path(file)
        written[path] = text.replace("\n", "\r\n" if b"\r\n" in path.read_bytes() else "\n")
    write_all(written)


def report_findings(spec: Path, overrides: dict[str, Any], lms: dict[str, str], imports: bool = True) -> None:
    """Print the findings of a program, which has no errors, on standard error before it is optimized. Raises SpecError, with
    all findings, where there are errors.

    With `imports` False no code of the program is imported, and only files of its checkout are read. `overrides` are
    the values of `--set`, `lms` the models of `--lm`.
    """
    from lmprog.compiler import SpecError, compile_file
    from lmprog.optimizers.optimizer import installed, options_of

    found = compile_file(
        spec,
        overrides=overrides,
        lms=lms,
        imports=imports,
        stage_configs=options_of,
        stage_names=installed,
        confined=not imports,
    )
    if found.plan is None:
        raise SpecError(found.findings)
    for finding in found.findings:
        click.echo(str(finding), err=True)
