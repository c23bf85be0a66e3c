"""`lmprog tools`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.environment import with_environment
from lmprog.cli.options import output_format

if TYPE_CHECKING:
    from lmprog.compiler import Finding
    from lmprog.compiler.tools.lock_file import Listing, Server

MAX_ABOUT = 100
"""The most characters of a tool's description that are shown."""


@click.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--check", is_flag=True, help="Write nothing; report how the servers differ from the lock file, and exit with 1."
)
@output_format("text", "json")
@with_environment
def command(specs: tuple[Path, ...], check: bool, style: str) -> None:
    """Ask the MCP servers of SPECS for their tools, and write these to a lock file that `check` reads. What a `schema` file
    describes is compared with that file, and not written.

    Starts the commands under `mcp` in the programs and their sub-programs, as a run would: not for a program that nobody has
    looked at. The lock file of program.yaml is program.lock.json; keep it beside the program.

    \b
    lmprog tools program.yaml
    lmprog tools program.yaml --check          # has a server changed since?
    """
    from lmprog.aio.loops import run_async
    from lmprog.tools.mcp_listing import list_servers

    servers = _servers(specs)
    listed = run_async(lambda: list_servers(servers))
    locks: dict[Path, list[Listing]] = {}
    if not check:
        locks = _locks(specs, servers, listed)
        _write(locks)
    # Those with a schema file are not in the lock file: no writing of it would mend them.
    findings = _changes(servers, listed, all_of=check) + ([] if check else _left(specs))
    if style == "json":
        found = [
            {"id": server.id, "server": now.server, "lock": str(server.lock), "tools": list(_taken(server, now))}
            for server, now in zip(servers, listed, strict=True)
        ]
        from lmprog.reports.json import render

        click.echo(json.dumps({"servers": found, **json.loads(render(findings))}, indent=2, ensure_ascii=False))
    else:
        _say(servers, listed, locks, findings, check)
    sys.exit(1 if any(finding.severity == "error" for finding in findings) else 0)


def _servers(specs: Sequence[Path]) -> list[Server]:
    """Return the MCP servers that the programs and their sub-programs name, each once. Raises SpecError where a file cannot be
    read as a program, and UsageError where none names a server.
    """
    from lmprog.compiler import SpecError, compile_file
    from lmprog.errors import UsageError

    found: list[Server] = []
    for spec in specs:
        compiled = compile_file(spec, data=False, imports=False)
        if compiled.draft is None:
            raise SpecError(compiled.findings)
        found += [server for server in compiled.servers if server not in found]
    if not found:
        raise UsageError(f"{', '.join(map(str, specs))}: no tool of an MCP server; tools.<id>.mcp names one")
    return found


def _locks(specs: Sequence[Path], servers: Sequence[Server], listed: Sequence[Listing]) -> dict[Path, list[Listing]]:
    """Return the listings to write by lock file; `listed` has what each of `servers` has listed now, in their order.

    The lock file of one of the programs `specs` holds these alone. That of a base or a sub-program keeps the listings of
    servers that are not among them.
    """
    from lmprog.compiler.tools.lock_file import lock_path, read_lock
    from lmprog.compiler.yaml.files import NotRead

    own = {lock_path(spec.resolve()) for spec in specs}
    found: dict[Path, list[Listing]] = {}
    for server, now in zip(servers, listed, strict=True):
        if server.schema is not None:
            continue
        there = found.setdefault(server.lock, [])
        same = next((position for position, one in enumerate(there) if replace(one, ids=now.ids) == now), None)
        if same is None:
            there.append(now)
        else:
            there[same] = replace(now, ids=tuple(sorted({*now.ids, *there[same].ids})))
    for path, there in found.items():
        if path in own:
            continue
        try:
            before = read_lock(path)
        except (NotRead, ValueError):
            continue
        named = {id for listing in there for id in listing.ids}
        there += [listing for listing in before if not named & set(listing.ids)]
    return found


def _write(locks: Mapping[Path, Sequence[Listing]]) -> None:
    """Write the lock files, each whole or not at all."""
    from lmprog.compiler.tools.lock_file import text_of
    from lmprog.compiler.yaml.whole_file import write_all

    write_all({path: text_of(listings) for path, listings in locks.items()})


def _changes(servers: Sequence[Server], listed: Sequence[Listing], *, all_of: bool) -> list[Finding]:
    """Return a finding for each difference between what the servers have listed now and their schema files, and with `all_of`
    their lock files."""
    from lmprog.compiler.findings.finding import Report
    from lmprog.compiler.tools.mcp_servers import CODE
    from lmprog.tools.mcp_listing import differences

    report = Report()
    for server, now in zip(servers, listed, strict=True):
        for said in differences(server, now):
            fix = "look at what changed, then run lmprog tools without --check"
            if server.schema is not None:
                fix = (
                    f"look at what changed, then write {server.schema} anew, or leave `schema` out and run lmprog tools"
                )
            elif not all_of:
                continue
            report.add(CODE, server.place, said, fix=fix)
    return list(report.settle(unused_ignores=False))


def _left(specs: Sequence[Path]) -> list[Finding]:
    """Return the findings on MCP servers that a check of the programs has with the lock files as they are now, such as a
    misspelt name under `only`.
    """
    from lmprog.compiler import compile_file
    from lmprog.compiler.tools.mcp_servers import CODE

    found = (finding for spec in specs for finding in compile_file(spec, data=False, imports=False).findings)
    return list(dict.fromkeys(finding for finding in found if finding.code == CODE))


def _taken(server: Server, now: Listing) -> Iterator[str]:
    """Yield the names of the tools of a server's listing that the program takes: those under `only`, else all."""
    yield from (name for name in now.tools if server.only is None or name in server.only)


def _line(name: str, described: Mapping[str, Any]) -> str:
    """Return a tool as a line: its name, parameters with types (`?` behind those that have a default), `writes` if it does, and
    the first sentence of its description. `described` is the tool as the server lists it.
    """
    from lmprog.compiler.tools.mcp_servers import described_tool

    tool = described_tool(name, described)
    takes = ", ".join(
        f"{key}{'?' if field.has_default else ''}: {field.type}" for key, field in tool.parameters.items()
    )
    about = " ".join((tool.about or "").split()).partition(". ")[0][:MAX_ABOUT]
    return f"{name}({takes}){' writes' if tool.effects == 'write' else ''}" + (f": {about}" if about else "")


def _say(
    servers: Sequence[Server],
    listed: Sequence[Listing],
    locks: Mapping[Path, Sequence[Listing]],
    findings: Sequence[Finding],
    check: bool,
) -> None:
    """Print the tools that the program takes of each server, and the lock files that were written; where none was (`--check`),
    only the findings, or that there are none.
    """
    from lmprog.compiler.yaml.source import shown_path

    for server, now in zip(servers, listed, strict=True) if not check else ():
        described = f" (described by {server.schema}, not by the lock file)" if server.schema is not None else ""
        click.echo(f"{server.id}: {now.server}{described}")
        for name in _taken(server, now):
            click.echo(f"  {_line(name, now.tools[name])}")
    for path in locks:
        click.echo(f"wrote {shown_path(path)}", err=True)
    for finding in findings:
        click.echo(str(finding))
    if check and not findings:
        files = "lock and schema files" if any(server.schema is not None for server in servers) else "lock files"
        click.echo(f"the servers are as their {files} say", err=True)
