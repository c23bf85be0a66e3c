"""The command line `lmprog`: the verb that was called is imported and run, and every failure becomes one message and the right
exit status.
"""

from __future__ import annotations

import importlib
import keyword
import sys
from collections.abc import Sequence
from typing import Any

import click

from lmprog.boundary.terminal import guarded
from lmprog.version import __version__

VERBS = {
    "candidates": "show what an optimization tried, and how it scored",
    "check": "compile programs and report findings",
    "compile": "write the manifest, the prompts as sent, and the graph",
    "credit": "show how much of the score's variance each module accounts for",
    "dev": "show a program on a local page as its file changes, and run it",
    "diff": "show how two programs differ in prompts, demos, adapters and scores",
    "doctor": "show what is installed here, and whether a program can run",
    "eval": "score a program, or two of them paired",
    "explain": "show the page of a finding",
    "import": "make a first program from another format",
    "init": "write a small working program to begin with",
    "export": "write prompts as text for other tools, or weights with the adapters merged in",
    "feedback": "say how good the answers of runs in a trace were, and what was right",
    "graph": "draw the steps as Mermaid",
    "lsp": "serve an editor: diagnostics, types, completion, renaming",
    "push": "put a tuned adapter on the Hugging Face Hub, with a model card",
    "optimize": "improve a program's prompts and weights, and write the overlay",
    "render": "show the exact messages that would be sent",
    "rows": "make rows of data from the runs in traces and the feedback on them",
    "run": "run a program on one input or on rows",
    "schema": "print the JSON schema of the language",
    "serve": "answer with a program over HTTP",
    "tools": "ask the MCP servers of a program for their tools, and lock them",
    "test": "run the tests of programs: examples and score gates",
    "trace": "read a trace in the terminal",
    "view": "show an optimization, or the runs of a trace, as a page; label runs by keys",
}
"""The verbs, each a file of this folder, with the line that the help shows of it."""
INTERRUPTED = 130
"""The exit status after Ctrl-C."""


class _Verbs(click.Group):
    """A group of verbs with one file each, which is imported when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the verbs, sorted."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a verb, whose file is imported now; None for an unknown one."""
        if cmd_name not in VERBS:
            return None
        file = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        found: click.Command = importlib.import_module(f"lmprog.cli.{file}").command
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Return what click makes of the arguments. Raises click.UsageError, with the nearest verb, for an unknown one."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, 1)
            fix = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"there is no verb {args[0]!r}{fix} `lmprog --help` lists them", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs and their lines of VERBS into the help, without importing their files."""
        with formatter.section("Verbs"):
            formatter.write_dl(sorted(VERBS.items()))


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the version and end the command where `--version` was given (`value`)."""
    if value:
        click.echo(f"lmprog {__version__}")
        ctx.exit()


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Print the version."
)
def lmprog() -> None:
    """Programs made of language-model calls, in one YAML file: checked, traced, and optimized.

    \b
    lmprog check program.yaml              find what is wrong before anything is paid for
    lmprog run program.yaml --input k=v    run it
    lmprog eval program.yaml               score it
    lmprog optimize program.yaml           improve its prompts and weights

    Exit status: 0 ok; 1 findings, failed tests or a missed gate; 2 wrong usage; 3 a provider or the infrastructure
    failed; 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command `lmprog` with these arguments (None: those of the process), and end the process by SystemExit with its
    exit status. Errors of the user and of the infrastructure are shown in one message without a traceback; any other error
    is a defect, and is raised.
    """
    with guarded():
        status = _status(arguments)
    sys.exit(status)


def _status(arguments: Sequence[str] | None) -> int:
    """Run the command, print the message of an error on standard error, and return the exit status. A verb may end it itself
    by SystemExit; an ImportError of lmprog's own code is raised.
    """
    from lmprog.errors import InfrastructureError, LmprogError

    try:
        lmprog.main(args=arguments, prog_name="lmprog", standalone_mode=False)
        return 0
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except LmprogError as error:
        click.echo(str(error) if error.place is not None else f"lmprog: {error}", err=True)
        return error.exit_status
    except OSError as error:
        click.echo(f"lmprog: {error.filename or 'the machine'}: {error.strerror or error}", err=True)
        return InfrastructureError.exit_status
    except MemoryError:
        click.echo(
            "lmprog: the machine has no memory left for this; end other programs, or use a larger machine", err=True
        )
        return InfrastructureError.exit_status
    except ImportError as error:
        return _of_extra(error)


def _of_extra(error: ImportError) -> int:
    """Say on standard error which extra a verb needs, and return the exit status. Raises the error itself where no extra has
    the module: then it is a defect of lmprog's, and keeps its traceback.
    """
    from lmprog.extras import missing

    found = missing(error, "this")
    if found is None:
        raise error
    click.echo(f"lmprog: {found}", err=True)
    return found.exit_status
