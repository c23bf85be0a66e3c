"""Reading of `tools:`: parameters, results and options of each tool."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmprog.compiler.declarations import settings
from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import shown_value, suggestion
from lmprog.compiler.plan import HubRows, Tool
from lmprog.compiler.rows.files import Row, RowsError, as_column, corpus_texts, read_file, row_place
from lmprog.compiler.tools.kinds import BUILT_IN, ToolKind, kind_of
from lmprog.compiler.tools.language import TOOL
from lmprog.compiler.types.lattice import STR, UNKNOWN, ListOf, Object, Type, mismatch
from lmprog.compiler.types.python_reference import ImportFailed, PythonReference, reference
from lmprog.compiler.types.signatures import Signature, signature
from lmprog.compiler.types.syntax import TypeReader
from lmprog.compiler.yaml.files import state_of
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence, from_plain

if TYPE_CHECKING:
    from lmprog.compiler.tools.schemas import Declared


def read_tools(draft: Draft, types: TypeReader) -> dict[str, Tool]:
    """Return the tools of the program by id; an MCP server with all its tools gives one for each, `<id>.<tool>`.

    Mistakes become findings of the draft, in which tools and servers whose parameters are not all known are noted too;
    a tool with mistakes is returned all the same. `types` reads the types that are declared there.
    """
    node = draft.root.map("tools")
    found: dict[str, Tool] = {}
    for id, entry in node.entries.items() if node else ():
        if isinstance(entry, Mapping):
            found |= {tool.id: tool for tool in _tools(draft, types, id, entry)}
    return found


def with_guarded(draft: Draft) -> dict[str, Tool]:
    """Return the tools by id, in which a Python tool that an agent can call counts as writing until its program says
    what it does: a model chooses its calls, and a function may do anything."""
    given = {tool for module in draft.modules.values() for tool in module.tools}
    return {
        id: replace(tool, effects="write") if id in given and effects_unsaid(draft, tool) else tool
        for id, tool in draft.tools.items()
    }


def effects_unsaid(draft: Draft, tool: Tool) -> bool:
    """Return whether neither the program nor the kind of a tool says if the tool changes anything."""
    node = draft.node("tools", tool.id)
    unsaid = isinstance(node, Mapping) and "effects" not in node.entries and "effects" not in node.dropped
    return unsaid and tool.kind == "python"


def read_reference(draft: Draft, node: Scalar, what: str) -> tuple[PythonReference, Signature | None]:
    """Return the Python function that a node names, and its signature; `what` names the place in messages.

    The signature is None where the function is not imported (for a program that is not trusted), and, with a finding,
    where its file may not be read or the function does not exist.
    """
    named = reference(node.value, node.source.folder)
    if named.file is not None and draft.reachable(node, what, node.value.rpartition(":")[0]) is None:
        return named, None
    if named.file is not None and not os.path.isfile(named.file):
        draft.file(
            Scalar(node.source, node.line, node.column, node.value.rpartition(":")[0], node.text, node.style),
            what,
        )
        return named, None
    try:
        return named, signature(named, draft.options.imports)
    except ImportFailed as error:
        draft.report.add("LMP103", node.place, f"{what}: {error}")
        return named, None


def _tools(draft: Draft, types: TypeReader, id: str, node: Mapping) -> list[Tool]:
    """Return the tools that an entry of `tools` stands for: one, but for an MCP server with all its tools."""
    # Imported for programs with tools alone, since most have none.
    from lmprog.compiler.tools.schemas import Declared, declared

    key = next((key for key in TOOL.having(node.entries).one_of if key in node.entries), "python")
    kind = kind_of(key)
    python: PythonReference | None = None
    options: Any = {}
    declaration = Declared({}, UNKNOWN, known=key != "python")
    entry = node.get(key)
    if key == "python":
        if isinstance(entry, Scalar):
            python, signed = read_reference(draft, entry, f"tool `{id}`")
            if signed is not None:
                declaration = Declared(dict(signed.parameters), signed.returns, not signed.open, signed.about)
                if signed.unnamed or signed.open:
                    draft.starred_tools.add(id)
    elif key == "mcp" and isinstance(entry, Mapping):
        return _of_server(draft, types, id, node, entry)
    elif key == "http" and isinstance(entry, Mapping):
        options = settings(draft, entry, f"tool `{id}`")
        declaration = declared(draft, types, id, entry)
        _say_untyped(draft, id, entry, declaration)
        # What a file of the spec says is resolved here.
        options |= {"operation": declaration.operation} if declaration.operation else {"folder": entry.source.folder}
    elif key == "search" and isinstance(entry, Mapping):
        options = settings(draft, entry, f"tool `{id}`")
        declaration = _described(types, id, kind, entry)
        if "columns" in entry.entries:
            declaration = replace(declaration, result=_columns_type(types, id, entry))
        _search(draft, id, entry, options, declaration.result)
    elif entry is not None and key not in BUILT_IN:
        given = settings(draft, entry, f"tool `{id}`")
        options = {"folder": entry.source.folder, **(given if isinstance(entry, Mapping) else {key: given})}
        declaration = _described(types, id, kind, entry)
    return [_tool(draft, id, node, kind, options, declaration, python)]


def _of_server(draft: Draft, types: TypeReader, id: str, node: Mapping, entry: Mapping) -> list[Tool]:
    """Return the tools that the entry `id` of `tools` with the key `mcp` stands for; `entry` is what is below that key.

    The server, which is not started here, is added to the draft for `lmprog tools`.
    """
    from lmprog.compiler.tools.mcp_servers import described, given_tools, server_of

    options = {**settings(draft, entry, f"tool `{id}`"), "folder": entry.source.folder}
    listing = described(draft, id, entry)
    found = given_tools(draft, types, id, node, listing)
    draft.named_servers.append(server_of(draft, id, node, options, listing))
    for given in found:
        _say_untyped(draft, given.id, entry, given.declared)
    kind = kind_of("mcp")
    return [_tool(draft, given.id, node, kind, {**options, **given.options}, given.declared) for given in found]


def _tool(
    draft: Draft,
    id: str,
    node: Mapping,
    kind: ToolKind,
    options: Any,
    declaration: Declared,
    python: PythonReference | None = None,
) -> Tool:
    """Return a tool with its own `options` and the keys that entries of all kinds have, such as `trusted`; one whose
    parameters are not all known is noted in the draft."""
    if not declaration.known:
        draft.open_tools.add(id)
    return Tool(
        id,
        kind.key,
        python,
        options,
        result=node.value("result", "result"),
        type=declaration.result,
        parameters=declaration.parameters,
        trusted=node.value("trusted", not kind.remote),
        effects=node.value("effects", _effects(kind, options, declaration)),
        timeout=node.value("timeout"),
        answer_mb=node.value("answer_mb", 16.0),
        cache=node.value("cache", False),
        about=node.value("about", declaration.about),
        open=not declaration.known,
    )


def _described(types: TypeReader, id: str, kind: ToolKind, node: Node) -> Declared:
    """Return the parameters and result that the record of a kind gives for all of its tools; `node` holds the options
    of the tool `id`, for messages."""
    from lmprog.compiler.tools.schemas import Declared

    inputs, output = from_plain(dict(kind.inputs), node.source), from_plain(kind.output, node.source)
    assert isinstance(inputs, Mapping)
    parameters = types.fields(inputs, f"input of tool `{id}`:")
    return Declared(parameters, types.type(output, f"output of tool `{id}`"), about=kind.about)


def _effects(kind: ToolKind, options: dict[str, Any], found: Declared) -> str:
    """Return the effects, `read` or `write`, of a tool whose spec does not state them: of an http tool `read` for GET and
    HEAD, else `read` where its description says that it changes nothing, or the default of its kind."""
    if kind.key == "http":
        method = found.operation.method if found.operation is not None else str(options.get("method", "GET"))
        return "read" if method.upper() in ("GET", "HEAD") else "write"
    return "read" if found.reads else kind.effects


_DESCRIBING = ("schema", "openapi", "command", "url")
"""The keys of an http or mcp tool at which its description is found fault with."""


def _say_untyped(draft: Draft, id: str, node: Mapping, found: Declared) -> None:
    """Add a finding of severity `info` for each parameter of a described tool that has type `json`, though its schema
    says more; `node` holds the tool's options."""
    from lmprog.compiler.tools.schema_limits import untyped

    for name, field in found.parameters.items():
        place = next((entry.place for key in _DESCRIBING if (entry := node.get(key)) is not None), None)
        part = next(untyped(field.schema, {}, name), None)
        if place is not None and part is not None:
            message = f"`{part[0]}` of tool `{id}` is json to the program: no type stands for {part[1]} of its schema"
            fix = "its values are checked against the schema at each call, and not before"
            draft.report.add("LMP604", place, message, severity="info", fix=fix)


def _columns_type(types: TypeReader, id: str, node: Mapping) -> Type:
    """Return the type of the result of a search with `columns`: a list of objects, whose fields are texts, or have the
    types that the spec writes."""
    columns = node.entries["columns"]
    if isinstance(columns, Sequence):
        return ListOf(Object(tuple((str(name), STR) for name in dict.fromkeys(columns.plain()))))
    fields = columns.entries if isinstance(columns, Mapping) else {}
    named = ((name, types.type(kind, f"column `{name}` of tool `{id}`")) for name, kind in fields.items())
    return ListOf(Object(tuple(named)))


def _search(draft: Draft, id: str, node: Mapping, options: dict[str, Any], result: Type) -> None:
    """Complete the `options` of a search in place: `corpus` becomes a path or a HubRows, `text` and `columns` lists.

    A file that is absent gets a finding and no `corpus`; columns that it lacks, or has as another type than `result`
    says, get findings where rows may be read.
    """
    corpus, text = node.get("corpus"), options.get("text")
    if isinstance(corpus, Mapping):
        options["corpus"] = HubRows(corpus.value("hf", ""), corpus.value("split", ""))
    else:
        path = draft.file(corpus, f"tool `{id}`") if corpus is not None else None
        if path is not None:
            options["corpus"] = path
            if draft.options.data:
                _columns(draft, id, node, path, result)
    options["text"] = [text] if isinstance(text, str) else text
    if "columns" in options:
        options["columns"] = list(options["columns"])


def _columns(draft: Draft, id: str, node: Mapping, path: Path, result: Type) -> None:
    """Report the columns of a search that the first row of its corpus, the file `path`, does not have or has as another
    type than `result` says, and a file that cannot be read. `node` holds the search's options."""
    typed = dict(result.item.fields) if isinstance(result, ListOf) and isinstance(result.item, Object) else {}
    values = [node.value(key) for key in ("text", "key", "columns")]
    used = {str(name) for value in values for name in (value if isinstance(value, list | dict) else [value])}
    try:
        rows = _checked_rows(path, corpus_texts(used, typed))
    except RowsError as error:
        draft.report.add("LMP601", node.entries["corpus"].place, f"tool `{id}`: {error}")
        return
    first = rows[0] if rows else None
    named: list[str] = []
    for key in ("text", "key", "columns"):
        written = node.get(key)
        names = written.keys.values() if isinstance(written, Mapping) else (written,)
        for entry in written.items if isinstance(written, Sequence) else names:
            if first is not None and isinstance(entry, Scalar) and entry.value in first:
                named.append(str(entry.value))
            if first is not None and isinstance(entry, Scalar) and entry.value not in first:
                message = f"`{key}` of tool `{id}` names the column `{entry.value}`, which {path.name} does not have"
                draft.report.add("LMP601", entry.place, message, fix=suggestion(str(entry.value), first, "columns"))
    _entries(draft, id, node, path, rows, named)
    for name, kind in typed.items():
        wrong = mismatch(as_column(first[name], kind), kind) if first is not None and name in first else None
        if wrong:
            message = f"the column `{name}` of tool `{id}` is another type in {path.name}: {wrong}"
            draft.report.add("LMP601", node.key_place("columns"), message, fix=f"write {name}: with its type")


CHECKED_BYTES = 1_000_000
"""The size of the largest corpus more of which is checked than its first row, so that a check stays fast."""
CHECKED_ROWS = 10_000
"""The most rows of a corpus that are checked."""


def _checked_rows(path: Path, texts: Collection[str]) -> list[Row]:
    """Return the rows of a corpus that a check looks at: the first CHECKED_ROWS of a small file, else the first. The columns
    `texts` of a csv file stay texts. Raises RowsError for a line that cannot be read among these."""
    size = state_of(path)
    small = size is not None and size[1] <= CHECKED_BYTES
    return list(islice(read_file(path, texts), CHECKED_ROWS if small else 1))


def _entries(draft: Draft, id: str, node: Mapping, path: Path, rows: list[Row], named: list[str]) -> None:
    """Report the first row of a corpus without one of the columns `named`, which ends each search, and an `id` that several
    rows have. `node` holds the search's options."""
    place = node.entries["corpus"].place
    for index, row in enumerate(rows):
        absent = next((name for name in named if name not in row), None)
        if absent is not None:
            message = f"tool `{id}`: row {index} has no column `{absent}`{row_place(path, index)}"
            draft.report.add("LMP601", place, message, fix="add it; null is a value")
            break
    seen: dict[str, int] = {}
    for index, row in enumerate(rows if "id" in named else ()):
        before = seen.setdefault(repr(row.get("id")), index)
        if before != index and "id" in row:
            said = f"{shown_value(row['id'])}{row_place(path, index)}"
            message = f"tool `{id}`: row {index} has the id of row {before}: {said}"
            draft.report.add("LMP601", place, message, severity="warning", fix="give each row an id of its own")
            break
