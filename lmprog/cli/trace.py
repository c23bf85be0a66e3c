"""`lmprog trace`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.boundary import terminal
from lmprog.cli.options import output_format

if TYPE_CHECKING:
    from rich.text import Text

    from lmprog.state.json_lines import PassedOver
    from lmprog.traces.summary import Record, Summary


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--row", metavar="N", help="Only the runs of this row.")
@click.option("--module", metavar="ID", help="Only the calls of this module or tool.")
@click.option("--errors", is_flag=True, help="Only the calls that failed or could not be read.")
@click.option("--messages", is_flag=True, help="Show prompts and replies, arguments and results.")
@output_format("text", "json")
def command(file: Path, row: str | None, module: str | None, errors: bool, messages: bool, style: str) -> None:
    """Read a trace: the calls of each run in the order of the program, and what they came to together.

    \b
    lmprog run program.yaml --inputs rows.jsonl --out answers.jsonl --trace trace.jsonl
    lmprog trace trace.jsonl --errors
    lmprog trace trace.jsonl --row 3 --messages
    """
    from lmprog.state.json_lines import PassedOver
    from lmprog.traces.run_record import KIND
    from lmprog.traces.summary import Summary, runs

    passed_over = PassedOver()
    summary = Summary()

    def chosen() -> Iterator[Record]:
        for record in _records(file, passed_over):
            other = module is not None and module not in (record.get("module"), record.get("tool"))
            if other or (row is not None and str(record["example"]) != row):
                continue
            if errors and record.get("error") is None:
                continue
            summary.add(record)
            yield record

    if style == "json":
        records = list(chosen())
        calls = [record for record in records if record["kind"] != KIND]
        whole = [record for record in records if record["kind"] == KIND]
        counts = {**summary.as_json(), "torn_lines": len(passed_over.numbers)}
        click.echo(json.dumps({"summary": counts, "records": calls, **({"runs": whole} if whole else {})}))
        return
    # In a pipe no line is broken, so that what is searched for is found.
    console = terminal.console(highlight=False, width=None if sys.stdout.isatty() else 1_000_000)
    for run in runs(chosen()):
        console.print(_tree(run, messages))
    for line in _said(summary):
        console.print(line, markup=False)
    if passed_over:
        console.print(str(passed_over), markup=False)


def _records(file: Path, passed_over: PassedOver) -> Iterator[Record]:
    """Yield the records of a trace file, LM and tool calls and whole runs, as dictionaries; lines that cannot be read are added
    to `passed_over`. Raises UsageError where there is no such file, or it is empty or no trace.
    """
    from lmprog.errors import UsageError
    from lmprog.traces.files import read_trace
    from lmprog.traces.summary import is_record

    if not file.exists():
        raise UsageError(f"there is no file {file}; `lmprog run --trace {file}` writes one")
    if file.is_dir():
        raise UsageError(f"{file} is a folder; name a trace file in it")
    if file.stat().st_size == 0:
        raise UsageError(f"{file} is empty: no call has been traced yet")
    found = False
    for record in read_trace(file, passed_over):
        if not is_record(record):
            raise UsageError(f"{file} is no trace: it has a line of JSON that is no call of an LM or a tool")
        found = True
        yield record
    if not found:
        raise UsageError(f"{file} is no trace: it has no line that is a JSON object")


def _tree(run: list[Record], messages: bool) -> Any:
    """Return the records of one run as a tree that rich prints: a branch for each call, with `messages` with its texts."""
    from rich.text import Text
    from rich.tree import Tree

    from lmprog.traces.run_record import KIND

    head = f"{_name(run)} row {run[0]['example']}" + (f" rollout {run[0]['rollout']}" if run[0]["rollout"] else "")
    tree = Tree(Text(head, style="bold"))
    for record in run:
        if record["kind"] == KIND:
            for part in _of_run(record, messages):
                tree.add(part)
            continue
        branch = tree.add(_line(record))
        for part in _details(record, messages):
            branch.add(part)
    return tree


def _name(run: list[Record]) -> str:
    """Return the name of the program that a run is of, for its heading. Where the trace has only calls of a sub-program, the
    outer program is not known, and the name of the outer step stands in its place.
    """
    first = run[0]
    if first.get("parent") and "types" not in run[-1]:
        return f"{first['parent'].split('/')[0]} in a run,"
    return str(run[-1]["program"] if "types" in run[-1] else first["program"])


def _of_run(record: Record, messages: bool) -> Iterator[Text]:
    """Yield the lines on a whole run: its id where that is not the row's number, its inputs and outputs with `messages`, and
    its error.
    """
    from rich.text import Text

    if record["id"] != str(record["example"]):
        yield Text(f"run {record['id']}", style="dim")
    if messages:
        yield Text.assemble(("inputs ", "dim"), _json(record["inputs"]))
        if "outputs" in record:
            yield Text.assemble(("outputs ", "green"), _json(record["outputs"]))
    if record.get("error") is not None:
        yield Text(f"the run failed: {record['error']}", style="red")


def _line(record: Record) -> Text:
    """Return the line of a call: its step, its module or tool, time, tokens and cost; red where it failed."""
    from rich.text import Text

    from lmprog.traces.summary import whole_path

    line = Text(whole_path(record), style="bold red" if record.get("error") is not None else "cyan")
    said = [f"{record.get('seconds', 0.0):.2f} s"]
    if record["kind"] == "tool":
        line.append(f" tool {record['tool']}", style="default")
    else:
        last = record["path"].rpartition(".")[2].partition("[")[0]
        line.append("" if last == record["module"] else f" module {record['module']}", style="default")
        usage = record.get("usage") or {}
        said.append(f"{usage.get('prompt_tokens', 0)} + {usage.get('completion_tokens', 0)} tokens")
        if record.get("cached"):
            said.append("from the cache")
        if usage.get("usd"):
            said.append(f"${usage['usd']:.6f}")
    if record.get("attempt"):
        said.append(f"attempt {record['attempt']}")
    line.append("  " + ", ".join(said), style="dim")
    return line


def _json(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def _details(record: Record, messages: bool) -> Iterator[Text]:
    """Yield the lines below a call: with `messages` its prompt and reply, or arguments and result; LMs that did not reply,
    repairs, and its error.
    """
    from rich.text import Text

    if messages and record["kind"] == "tool":
        yield Text(_json(record["arguments"]))
        if "result" in record and record.get("error") is None:
            yield Text.assemble(("result ", "dim"), _json(record["result"]))
    elif messages:
        for message in record.get("messages", ()):
            content = message.get("content")
            shown = content if isinstance(content, str) else _json(content)
            yield Text.assemble((f"{message.get('role')} ", "dim"), shown)
        if "finish_reason" in record:
            yield Text.assemble(("reply ", "green"), record.get("text", ""))
        for call in record.get("tool_calls", ()):
            yield Text.assemble(("calls ", "green"), f"{call['name']} {_json(call['arguments'])}")
    for id, said in (record.get("passed_over") or {}).items():
        yield Text(f"no reply of {id}: {said}", style="yellow")
    if record.get("lm"):
        yield Text(f"answered by {record['lm']}", style="dim")
    for forgiven in record.get("forgiven", ()):
        yield Text(f"forgiven: {forgiven}", style="yellow")
    if record.get("error") is not None:
        yield Text(f"error: {record['error']}", style="red")


def _said(summary: Summary) -> Iterator[str]:
    """Yield the lines below all runs: counts of calls and errors, and where there are any, tokens, cost, latency, unreadable
    replies, repairs and LMs that did not reply.
    """
    yield f"{_count(summary.lm_calls, 'LM call')}, {_count(summary.tool_calls, 'tool call')}, {_count(summary.errors, 'error')}"
    if summary.lm_calls:
        cached = f" ({summary.cached_tokens} of them kept by the provider)" if summary.cached_tokens else ""
        unknown = f" and {_count(summary.unpriced, 'reply')} of unknown price" if summary.unpriced else ""
        yield f"{summary.prompt_tokens} prompt tokens{cached}, {summary.completion_tokens} completion tokens"
        yield f"${summary.usd:.6f}{unknown}"
    if summary.seconds:
        yield f"latency: half within {summary.latency(0.5):.2f} s, 95% within {summary.latency(0.95):.2f} s"
    if summary.from_cache:
        yield f"{_count(summary.from_cache, 'reply')} from the cache"
    if summary.unreadable:
        yield f"{_count(summary.unreadable, 'reply')} could not be read"
    for id, times in summary.answered_by.most_common():
        yield f"answered by {id}: {_count(times, 'call')}"
    for id, times in summary.passed_over.most_common():
        yield f"no reply of {id}: {_count(times, 'call')}"
    for what, times in summary.forgiven.most_common():
        yield f"forgiven {_count(times, 'time')}: {what}"


def _count(number: int, what: str) -> str:
    """Return a number with its noun `what` in the singular or plural, as `2 replies`."""
    many = "replies" if what == "reply" else f"{what}s"
    return f"{number} {what if number == 1 else many}"
