"""`lmprog check`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import output_format, overriding


@click.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@overriding
@output_format("text", "json", "github", "sarif", "junit")
@click.option("--strict", is_flag=True, help="Warnings too make the exit status 1.")
@click.option("--no-import", is_flag=True, help="Run no user code: for changes that nobody has looked at yet.")
def command(
    specs: tuple[Path, ...], lms: dict[str, str], overrides: dict[str, Any], style: str, strict: bool, no_import: bool
) -> None:
    """Compile SPECS and report findings with their place and a fix. Starts no LM.

    \b
    lmprog check program.yaml
    lmprog check specs/*.yaml --format github --strict
    """
    from lmprog.compiler import Finding, compile_file
    from lmprog.optimizers.optimizer import config_of

    findings: list[Finding] = []
    for spec in specs:
        found = compile_file(spec, overrides=overrides, lms=lms, imports=not no_import, stage_configs=config_of)
        findings += found.findings
    render = importlib.import_module(f"lmprog.reports.{style}").render
    text = render(findings)
    if text:
        click.echo(text.rstrip("\n"))
    failing = [
        finding for finding in findings if finding.severity == "error" or (strict and finding.severity == "warning")
    ]
    if style == "text" and not findings:
        click.echo(f"{len(specs)} program{'s' if len(specs) > 1 else ''}: no findings", err=True)
    sys.exit(1 if failing else 0)


def report_findings(spec: Path, overrides: dict[str, Any], lms: dict[str, str]) -> None:
    """Print the findings of a program that is about to be optimized; raises SpecError where it cannot be."""
    from lmprog.compiler import SpecError, compile_file
    from lmprog.optimizers.optimizer import config_of

    found = compile_file(spec, overrides=overrides, lms=lms, stage_configs=config_of)
    if found.plan is None:
        raise SpecError(found.findings)
    for finding in found.findings:
        click.echo(str(finding), err=True)
