"""Reading of `mcp:`: the tools that a server gives a program, by its lock file or a schema file. No server is started."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.plan import Field, Tool
from lmprog.compiler.tools.lock_file import Listing, Server, lock_path, of_lists, reached_by, read_lock
from lmprog.compiler.tools.mcp_commands import not_on_path, report_absent
from lmprog.compiler.tools.openapi import resolve
from lmprog.compiler.tools.schemas import Declared, read_document, schema_fields, schema_type, written_result
from lmprog.compiler.types.lattice import JSON, MESSAGES, STR, Object, Type, without_none
from lmprog.compiler.types.syntax import TypeReader
from lmprog.compiler.yaml.files import NotRead
from lmprog.compiler.yaml.source import Mapping as Node
from lmprog.compiler.yaml.source import Scalar, Sequence, shown_path

CODE = "LMP605"
PARTS = {"tool": "tools", "resource": "resources", "prompt": "prompts"}
"""The keys that name one thing of a server, and what a listing calls them."""
_ELSEWHERE = re.compile(r"\$\{(?!\{)[^{}]+\}")
"""A variable as configuration files of other clients write it."""
_HOLE = re.compile(r"{([^{}]*)}")


@dataclass(frozen=True)
class Given:
    """A tool that an MCP server gives a program: its id in the program, its options beside those of the server (`tool`,
    its name on the server, where the program takes all tools), and its parameters and result (`declared`)."""

    id: str
    options: Mapping[str, Any]
    declared: Declared


def described(draft: Draft, id: str, node: Node) -> Listing | None:
    """Return what is known of the server of the entry `id` of `tools`, whose options are `node`: from its schema file,
    else from the lock file; None where nothing is. A file that cannot be read, and files of its command that do not
    exist, get a finding."""
    absent = report_absent(draft, id, node)
    return _schema_file(draft, id, node) if node.get("schema") is not None else _locked(draft, id, node, absent)


def given_tools(draft: Draft, types: TypeReader, id: str, whole: Node, listing: Listing | None) -> list[Given]:
    """Return the tools that the entry `id` of `tools` with `mcp`, the node `whole`, stands for: one tool, resource or
    prompt, the tools under `only`, or all tools of the server, by `listing` (None: nothing is known of it).

    What the server does not list gets a finding; where no list is known, the tools under `only` have no known
    parameters. Without `only` such a server gets a finding and gives no tools. The ids of a server's tools are noted in
    the draft, None where they are not known, so that no tool of it is reported as missing. `types` reads the types that
    are declared there.
    """
    node = whole.entries["mcp"]
    assert isinstance(node, Node)
    _check_form(draft, id, whole, node)
    named = next((key for key in PARTS if isinstance(node.get(key), Scalar)), None)
    if named is not None:
        part = str(node.value(named))
        return [Given(id, {}, _one(draft, types, id, node, named, part, listing))]
    only = _only(whole)
    if only is None and listing is None:
        if node.get("schema") is None:
            fix = f"run lmprog tools {shown_path(draft.path)}, which starts it and writes {lock_path(draft.path).name}"
            message = f"the tools of the MCP server `{id}` are not known: they are in no lock file"
            draft.report.add(CODE, node.place, message, fix=fix)
        draft.servers[id] = None
        return []
    names = only or tuple(listing.tools if listing is not None else ())
    if listing is not None:
        _report_absent(draft, id, whole, listing)
        names = tuple(name for name in names if name in listing.tools)
    draft.servers[id] = tuple(f"{id}.{name}" for name in names)
    return [
        Given(f"{id}.{name}", {"tool": name}, _of_tool(listing.tools.get(name) if listing else None)) for name in names
    ]


def _only(whole: Node) -> tuple[str, ...] | None:
    """Return the names under `only`, each once, or None where it is not written."""
    only = whole.get("only")
    return tuple(dict.fromkeys(map(str, only.plain()))) if isinstance(only, Sequence) else None


def _check_form(draft: Draft, id: str, whole: Node, node: Node) -> None:
    """Report keys that contradict each other, and variables in the notation of other clients."""
    named = [key for key in PARTS if key in node.entries]
    for key in named[1:]:
        message = f"tool `{id}` is one of a server's tools, resources and prompts: `{named[0]}` or `{key}`"
        draft.report.add("LMP101", node.key_place(key), message, fix="write each as a tool of its own")
    if named and "only" in whole.entries:
        message = f"`only` of tool `{id}` chooses among all tools of a server, and `{named[0]}` names one thing"
        draft.report.add("LMP101", whole.key_place("only"), message, fix="leave one of the two out")
    for mapping, key, of in ((node, "output", "type"), (whole, "about", "description")):
        if not named and key in mapping.entries:
            message = f"`{key}` is the {of} of one tool, and `{id}` stands for all tools of a server"
            draft.report.add("LMP101", mapping.key_place(key), message, fix=f"name one with `tool`, or remove `{key}`")
    over = node.value("type")
    if over is not None and (over == "stdio") != ("command" in node.entries):
        stands = "command" if "command" in node.entries else "url"
        message = f"the server `{id}` is reached by `{stands}`, which is not `{over}`"
        draft.report.add("LMP101", node.entries["type"].place, message, fix="leave `type` out")
    for scalar in _texts(node):
        found = _ELSEWHERE.search(str(scalar.value))
        if found is not None:
            name = re.sub(r"\W.*", "", found[0][2:-1].removeprefix("env:").removeprefix("input:")) or "NAME"
            message = f"{found[0]} in the server `{id}` is sent as it stands: no shell fills it in"
            draft.report.add("LMP101", scalar.place, message, fix=f'write "${{{{ env.{name} }}}}"')


def _texts(node: Node) -> Iterator[Scalar]:
    """Yield the scalars of a server's options that are sent as they are written, so that a variable in them is a mistake:
    the address, whole arguments, environment and headers."""
    args = node.get("args")
    listed = args.items if isinstance(args, Sequence) else []
    whole = [item for item in listed if isinstance(item, Scalar) and _ELSEWHERE.fullmatch(str(item.value))]
    maps = [part for key in ("env", "headers") if (part := node.map(key)) is not None]
    values = [value for part in maps for value in part.entries.values()]
    for scalar in (node.get("url"), *whole, *values):
        if isinstance(scalar, Scalar):
            yield scalar


def _schema_file(draft: Draft, id: str, node: Node) -> Listing | None:
    """Return the tools that the file under `schema` describes, a list or a single tool; None, with a finding, where it
    cannot be read."""
    described = read_document(draft, id, node, "schema")
    if described is None:
        return None
    listed = described.get("tools", [described]) if isinstance(described, dict) else described
    if isinstance(described, dict) and "name" not in described and "tools" not in described:
        listed = [
            {"name": str(node.value("tool", id)), "inputSchema": described.get("inputSchema", described)} | described
        ]
    try:
        return of_lists({"tools": listed})
    except ValueError as error:
        draft.report.add("LMP103", node.entries["schema"].place, f"the schema of tool `{id}`: {error}")
        return None


def _locked(draft: Draft, id: str, node: Node, absent: bool) -> Listing | None:
    """Return the entry of the server `id` in the lock file beside its spec; None where there is none.

    Where the server was reached in another way when it was listed, return its old entry, with a warning, unless `absent`:
    its command has a finding already. A lock file that cannot be read gets a finding. Each file is read once a
    compilation.
    """
    path = lock_path(node.source.path)
    if path not in draft.locks:
        try:
            draft.locks[path] = read_lock(path, draft.options.root)
        except (NotRead, ValueError) as error:
            draft.locks[path] = ()
            message = f"the lock file {path.name} cannot be read: {error}"
            draft.report.add(CODE, node.place, message, fix=f"run lmprog tools {shown_path(draft.path)}")
    found = _entry(draft, id, node)
    if found is not None:
        return found
    stale = next((each for each in draft.locks[path] if id in each.ids), None)
    if stale is not None and not absent:
        message = f"{path.name} describes `{id}` as it was reached before, by another command or address"
        if (command := not_on_path(node)) is not None:
            message += f"; there is no command `{command}` on the path"
        fix = f"run lmprog tools {shown_path(draft.path)}"
        draft.report.add(CODE, node.place, message, severity="warning", fix=fix)
    return stale


def _entry(draft: Draft, id: str, node: Node) -> Listing | None:
    """Return the entry of the lock file for a server as it is reached now: one with this id if there is, else any; None
    where there is none, or the lock file was not read."""
    digest = reached_by(node.plain())
    listings = draft.locks.get(lock_path(node.source.path), ())
    found = [each for each in listings if each.reached_by == digest]
    return next((each for each in found if id in each.ids), found[0] if found else None)


def server_of(draft: Draft, id: str, whole: Node, settings: Mapping[str, Any], listing: Listing | None) -> Server:
    """Return how the MCP server of the entry `id` of `tools` is reached, and what the program takes of it.

    `whole` is the entry's node, `settings` are its options and folder, `listing` is what its schema file describes (None:
    it has none).
    """
    node = whole.entries["mcp"]
    assert isinstance(node, Node)
    one = node.get("tool")
    only = _only(whole)
    if one is not None:
        only = (str(one.plain()),)
    elif node.get("resource") is not None or node.get("prompt") is not None:
        only = ()
    schema = node.value("schema")
    known = _entry(draft, id, node) if schema is None else listing
    return Server(id, settings, reached_by(node.plain()), node.place, only, known, whole.value("timeout"), schema)


def _report_absent(draft: Draft, id: str, whole: Node, listing: Listing) -> None:
    """Report names under `only` that the server does not list as tools."""
    only = whole.get("only")
    for item in only.items if isinstance(only, Sequence) else ():
        if item.plain() not in listing.tools:
            message = f"the MCP server `{id}` has no tool `{item.plain()}`"
            draft.report.add(CODE, item.place, message, fix=suggestion(str(item.plain()), listing.tools, "tools"))


def _one(
    draft: Draft, types: TypeReader, id: str, node: Node, key: str, name: str, listing: Listing | None
) -> Declared:
    """Return the parameters and result of one tool, resource or prompt (`key`) of a server by its name or address; what
    `listing` does not have gets a finding (None: nothing is known of the server)."""
    result = written_result(types, id, node)
    if key == "resource":
        return _resource(draft, id, node, name, listing, result)
    known = getattr(listing, PARTS[key]) if listing is not None else None
    if known is not None and name not in known:
        if node.get("schema") is not None:
            code, message = "LMP604", f"the schema of tool `{id}` describes no tool `{name}`"
        else:
            code, message = CODE, f"the MCP server of `{id}` has no {key} `{name}`"
        draft.report.add(code, node.entries[key].place, message, fix=suggestion(name, known, PARTS[key]))
    described = known.get(name) if known is not None else None
    return _of_prompt(described, result) if key == "prompt" else _of_tool(described, result)


def _of_tool(described: Mapping[str, Any] | None, result: Type | None = None) -> Declared:
    """Return the parameters and result of a tool as its server describes it (None: it does not). `result` is the type
    that the spec writes, in place of that of the `outputSchema` (None: none is written)."""
    document = described.get("inputSchema") if described is not None else None
    if described is None or not isinstance(document, dict):
        return Declared({}, result or JSON, known=False)
    output = described.get("outputSchema")
    if result is None and isinstance(output, dict):
        result = _unwrapped(schema_type(resolve(output, output), output))
    notes = described.get("annotations")
    schema = resolve(document, document)
    return Declared(
        schema_fields(schema, document),
        result or JSON,
        known=schema.get("additionalProperties") is not True,
        about=described.get("description"),
        reads=isinstance(notes, dict) and notes.get("readOnlyHint") is True,
    )


def _unwrapped(result: Type) -> Type:
    """Return the type of the value where a result is an object with the field `result` alone, as servers send what is no
    object; else the type itself."""
    fields = dict(result.fields) if isinstance(result, Object) else {}
    inner = fields.get("result", JSON)
    return inner if len(fields) == 1 and without_none(inner) != JSON else result


def described_tool(name: str, described: Mapping[str, Any]) -> Tool:
    """Return the tool `name` as its MCP server describes it, with parameters and result from its schemas (`json`
    without one for the result), to be shown to people; it writes unless it says that it only reads. It cannot be
    called, since it has no options."""
    found = _of_tool(described)
    effects: Literal["read", "write"] = "read" if found.reads else "write"
    return Tool(name, "mcp", None, {}, "result", found.result, found.parameters, effects=effects, about=found.about)


def _of_prompt(described: Mapping[str, Any] | None, result: Type | None) -> Declared:
    """Return the parameters of a server's prompt, which are all texts, and its result, by default its messages; None for
    `described` where the server's list is not known."""
    listed = (described or {}).get("arguments", ())
    takes = [entry for entry in listed if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
    fields = {
        entry["name"]: Field(STR, entry.get("description"), has_default=entry.get("required") is not True)
        for entry in takes
    }
    about = (described or {}).get("description")
    return Declared(fields, result or MESSAGES, known=described is not None, about=about, reads=True)


def _resource(
    draft: Draft, id: str, node: Node, address: str, listing: Listing | None, result: Type | None
) -> Declared:
    """Return the parameters in the address of a resource, and its result: text, unless `output` says otherwise."""
    names = _HOLE.findall(address)
    for name in names:
        if not name.isidentifier():
            message = f"`resource` of tool `{id}` has {{{name}}}, which is no name of a parameter"
            draft.report.add("LMP101", node.entries["resource"].place, message, fix="write {name}")
    known = {**listing.resources, **listing.templates} if listing is not None else {address: {}}
    fits = any(_HOLE.sub("{}", entry) == _HOLE.sub("{}", address) or _matches(entry, address) for entry in known)
    if not fits and node.get("schema") is None:
        message = f"the MCP server of `{id}` lists no resource `{address}`"
        draft.report.add(CODE, node.entries["resource"].place, message, fix=suggestion(address, known, "resources"))
    about = known.get(address, {}).get("description")
    return Declared({name: Field(STR) for name in names}, result or STR, about=about, reads=True)


def _matches(template: str, address: str) -> bool:
    """Return whether an address is one of those that a template stands for."""
    parts: Iterable[str] = _HOLE.split(template)
    pattern = "".join(".+" if position % 2 else re.escape(part) for position, part in enumerate(parts))
    return re.fullmatch(pattern, address) is not None
