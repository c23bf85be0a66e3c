"""The lock file of MCP servers: what each listed when `lmprog tools` asked it, which a check reads without starting any."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmprog.compiler.yaml.files import is_file, read_text, refusal
from lmprog.compiler.yaml.source import Place

SUFFIX = ".lock.json"
VERSION = 1
ADDRESS = ("command", "args", "url")
"""The options that say which server it is. Environment and headers hold secrets, and seldom change the tools."""
KEPT = {
    "tools": ("name", ("name", "description", "inputSchema", "outputSchema", "annotations")),
    "resources": ("uri", ("uri", "name", "description", "mimeType")),
    "templates": ("uriTemplate", ("uriTemplate", "name", "description", "mimeType")),
    "prompts": ("name", ("name", "description", "arguments")),
}
"""The lists that are kept of a server: for each the key that names an entry, and the keys that an entry keeps."""

_KINDS = {"inputSchema": dict, "outputSchema": dict, "annotations": dict, "arguments": list}
"""The kinds of values that are no text. What is of another kind is not kept: a lock file may come from anyone."""

Entries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Listing:
    """The tools, resources, resource templates and prompts that one MCP server lists, each as a mapping by name or
    address; made from a server's answers or from an entry of a lock file.

    `server` is its own name and version, `reached_by` the digest of its command or address, and `ids` are the ids that
    the program gives it.
    """

    tools: Entries = field(default_factory=dict)
    resources: Entries = field(default_factory=dict)
    templates: Entries = field(default_factory=dict)
    prompts: Entries = field(default_factory=dict)
    server: str = ""
    """The server's own name and version."""
    reached_by: str = ""
    """The digest of the command or address by which it was reached."""
    ids: tuple[str, ...] = ()
    """The ids of the entries of `tools` that stand for the server."""

    def document(self) -> dict[str, Any]:
        """Return the listing as an entry of the lock file: a dictionary with `ids`, `server`, `reached_by`, and for
        each of `tools`, `resources`, `templates` and `prompts` that has entries a list of them, sorted by name or
        address."""
        lists = {part: [dict(entry) for _, entry in sorted(getattr(self, part).items())] for part in KEPT}
        head = {"ids": sorted(self.ids), "server": self.server, "reached_by": self.reached_by}
        return head | {part: entries for part, entries in lists.items() if entries}


@dataclass(frozen=True)
class Server:
    """An MCP server that a program names, for `lmprog tools`: its id and place in the spec, how it is reached, and what of
    it the program takes.

    `only` are the names of the tools taken (None: all; empty where a resource or prompt is taken), `locked` is what the
    lock file, or the file under `schema`, holds of it (None: nothing, or no file was needed), `timeout` the seconds that
    it has for an answer (None: the default), and `schema` the file that describes it in place of the lock file (None:
    there is none).
    """

    id: str
    settings: Mapping[str, Any]
    """The options below `mcp` and the `folder` in which the server starts, with expressions where they read `env`."""
    reached_by: str
    place: Place
    only: tuple[str, ...] | None
    """The tools that the program takes; None for all."""
    locked: Listing | None
    """The server's entry in the lock file, where one was read; what its schema file describes, if it has one."""
    timeout: float | None = None
    schema: str | None = None

    @property
    def lock(self) -> Path:
        """The lock file beside the spec that names the server."""
        return lock_path(self.place.source.path)


def lock_path(spec: Path) -> Path:
    """Return the path of the lock file beside a spec, `NAME.lock.json` for `NAME.yaml`, whether it exists or not."""
    return spec.parent / f"{spec.stem}{SUFFIX}"


def reached_by(options: Mapping[str, Any]) -> str:
    """Return a digest (`sha256:` and 32 digits) of the command, arguments or address of a server, from the options
    below `mcp` as the spec writes them; environment and headers do not change it."""
    written = json.dumps({key: options[key] for key in ADDRESS if key in options}, sort_keys=True, default=str)
    return f"sha256:{hashlib.sha256(written.encode(errors='surrogatepass')).hexdigest()[:32]}"


def of_lists(lists: Mapping[str, Any], **about: Any) -> Listing:
    """Return the listing for the lists `tools`, `resources`, `templates` and `prompts` of a server (an absent one is
    empty), each entry with the keys of KEPT alone, where their values are of the right kind.

    `about` are further fields of the Listing. Raises ValueError for an entry that is no mapping with a name or address.
    """
    tools, resources, templates, prompts = (_entries(part, lists.get(part, [])) for part in KEPT)
    return Listing(tools, resources, templates, prompts, **about)


def _entries(part: str, listed: Any) -> Entries:
    """Return the entries of a part of KEPT by name or address; a value that is no list counts as its only entry."""
    name, keys = KEPT[part]
    found: dict[str, dict[str, Any]] = {}
    for entry in listed if isinstance(listed, list) else [listed]:
        if not isinstance(entry, Mapping) or not isinstance(entry.get(name), str):
            raise ValueError(f"an entry of `{part}` has no `{name}`")
        found[entry[name]] = {key: entry[key] for key in keys if isinstance(entry.get(key), _KINDS.get(key, str))}
    return found


def read_lock(path: Path, root: Path | None = None) -> tuple[Listing, ...]:
    """Return the listings in the lock file at `path`, one a server; an empty tuple where there is no file.

    Raises NotRead for a file outside of the folder `root` (None: no limit), or that cannot be read, and ValueError for
    one that is no lock file or of another version.
    """
    # Asked first: that a file outside of a stranger's checkout is there is not said either.
    if refusal(path, root) is None and not is_file(path):
        return ()
    try:
        document = json.loads(read_text(path, root))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    servers = document.get("servers") if isinstance(document, dict) else None
    if not isinstance(servers, list) or not all(isinstance(entry, dict) for entry in servers):
        raise ValueError("it has no list of servers")
    if document.get("version") != VERSION:
        raise ValueError(f"it is of version {document.get('version')!r}, and this lmprog reads {VERSION}")
    return tuple(
        of_lists(
            entry,
            server=str(entry.get("server", "")),
            reached_by=str(entry.get("reached_by", "")),
            ids=tuple(id for id in _list(entry.get("ids")) if isinstance(id, str)),
        )
        for entry in servers
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_of(listings: Iterable[Listing]) -> str:
    """Return the text (JSON) of a lock file with these listings, in the order of their ids."""
    servers = sorted((listing.document() for listing in listings), key=lambda entry: entry["ids"])
    return json.dumps({"version": VERSION, "servers": servers}, indent=2, ensure_ascii=False) + "\n"
