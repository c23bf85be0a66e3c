"""A program while it is compiled: the parts read so far, and their places in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmprog.compiler.findings.finding import Report, nearest
from lmprog.compiler.plan import LM, Export, Field, Metric, Module, Optimize, Plan, Split, Step, Tool
from lmprog.compiler.rows.files import Row
from lmprog.compiler.tools.lock_file import Listing, Server
from lmprog.compiler.types.lattice import Object, Type
from lmprog.compiler.types.values import Binder
from lmprog.compiler.yaml.files import followed, is_file, refusal
from lmprog.compiler.yaml.source import Mapping, Node, Place, Source

StageConfigs = Callable[[str], Any]


@dataclass(frozen=True, eq=False)
class Options:
    """The options of `compile_file`, which hold for a program and, but for `evaluation`, for the programs that it runs.

    Without `imports` no user code runs, without `data` no rows are read, and without `evaluation` data, metrics, tests
    and `optimize` are not read. `stage_configs` returns the pydantic Config of an optimizer by its name (None: stage
    options are not checked), `stage_names` the names of all. Nothing outside of the folder `root` is read (None: any
    file).
    """

    imports: bool = True
    data: bool = True
    stage_configs: StageConfigs | None = None
    root: Path | None = None
    """The folder outside of which nothing is read, for a program that is not trusted; None where any file may be read."""
    evaluation: bool = True
    """False for a sub-program and a member of an ensemble, whose data, metrics, optimize and tests do not matter."""
    stage_names: Callable[[], Iterable[str]] = tuple
    """Returns the names of the optimizers that are installed, for the message about one that is not."""


@dataclass
class Draft:
    """A program under compilation: its file (`path`), its YAML tree (`root`), and its parts by id, filled as they are
    read.

    The parts have the names of the spec's blocks (`vars`, `inputs`, `lms`, `tools`, `modules`, `steps`, `outputs`,
    `data`, `metrics`, `optimize`, `export`); `optimize` and `export` are None where the spec has no such block, or it is
    not read yet. A part that could not be read is absent or has the type UNKNOWN, and has its finding in `report`.
    `binder` makes the expressions of the program.
    """

    path: Path
    root: Mapping
    report: Report
    options: Options
    compile: Callable[[Path, Place, str], Plan | None]
    """Returns the plan of a sub-program by its path, the place that names it, and words for what names it; None, with a
    finding, where it has errors."""
    binder: Binder
    vars: dict[str, Any] = field(default_factory=dict)
    unknown_vars: set[str] = field(default_factory=set)
    var_types: Object = field(default_factory=lambda: Object(()))
    inputs: dict[str, Field] = field(default_factory=dict)
    lms: dict[str, LM] = field(default_factory=dict)
    tools: dict[str, Tool] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    step_nodes: dict[str, Mapping] = field(default_factory=dict)
    """The node of each step, by its path."""
    step_keys: dict[str, Place] = field(default_factory=dict)
    """The place of each step's id in the source, by the step's path."""
    members: Map[str, Plan] = field(default_factory=dict)
    """The programs of an ensemble, by the names under which its steps run them."""
    outputs: dict[str, Any] = field(default_factory=dict)
    output_types: dict[str, Type] = field(default_factory=dict)
    data: dict[str, Split] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    """The rows of each split, where they were read."""
    metrics: dict[str, Metric] = field(default_factory=dict)
    optimize: Optimize | None = None
    export: Export | None = None
    open_tools: set[str] = field(default_factory=set)
    """Tools whose parameters are not all known, so that a strange argument may be right."""
    starred_tools: set[str] = field(default_factory=set)
    """Python tools that take any arguments (`*args`, `**kwargs`), of which no agent is told."""
    servers: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    """The MCP servers with all their tools, by id: the ids of these tools; None where they are not known."""
    locks: dict[Path, tuple[Listing, ...]] = field(default_factory=dict)
    """The listings in the lock files of MCP servers that were read, by path."""
    named_servers: list[Server] = field(default_factory=list)
    """The MCP servers that the program names, for `lmprog tools`."""
    used: set[tuple[str, ...]] = field(default_factory=set)
    """Names that the program refers to, as `("lms", id)`; other declarations are reported as unused."""

    misnamed: set[str] = field(default_factory=set)
    """Ids that a misspelt name was probably meant to be, so that they are not reported as unused."""
    unsure: set[str] = field(default_factory=set)
    """Ids of modules whose templates have findings, so that no finding is made of what they do not read."""

    @property
    def source(self) -> Source:
        """The text of the file that the program stands in."""
        return self.root.source

    def node(self, *path: str) -> Node | None:
        """Return the node at a path of keys from the top of the spec; None where there is none (the items of lists have
        no keys), also where it was left out with a finding."""
        found: Node | None = self.root
        for key in path:
            if not isinstance(found, Mapping):
                return None
            found = found.get(key)
        return found

    def place(self, *path: str) -> Place:
        """Return the place of the value at a path of keys, or of the nearest node above where it is absent."""
        for length in range(len(path), -1, -1):
            found = self.node(*path[:length])
            if found is not None:
                return found.place
        return self.root.place

    def key(self, *path: str) -> Place:
        """Return the place of the key at the end of a path of keys; of the mapping, or the nearest node above, where the
        key is absent."""
        around = self.node(*path[:-1])
        return around.key_place(path[-1]) if isinstance(around, Mapping) else self.place(*path[:-1])

    def dropped(self, section: str) -> Map[str, None]:
        """Return the ids in a section of the spec that were written but could not be read, as keys of a dictionary
        whose values are None; empty where the section is absent."""
        node = self.root.map(section)
        return dict.fromkeys(node.dropped) if node else {}

    def tool_ids(self, name: str) -> tuple[str, ...] | None:
        """Return the ids of the tools that a name stands for: itself, or all tools of an MCP server; None for a name of no
        tool.

        It is empty for a server whose tools are not known, and for a single tool of such a server.
        """
        if name in self.tools:
            return (name,)
        server = name.partition(".")[0]
        if server in self.servers and (server == name or self.servers[server] is None):
            return self.servers[server] or ()
        return None

    def use_tool(self, name: str) -> None:
        """Mark a tool, and the MCP server that it belongs to, as used."""
        self.used |= {("tools", name), ("tools", name.partition(".")[0])}

    def meant(self, section: str, id: str) -> None:
        """Mark as used the id of a section that the unknown `id` probably means (where none is near, `id` itself), so that
        it is not reported as unused too."""
        close = nearest(id, getattr(self, section)) or id
        self.used.add((section, close))
        self.misnamed.add(close)

    def dropped_top(self, section: str) -> bool:
        """Return whether a top-level section was written but could not be read."""
        return section in self.root.dropped

    def reachable(self, node: Node, what: str, text: str) -> Path | None:
        """Return the path `text`, relative to the file of `node`, with links followed, whether it exists or not; None, with
        a finding, where it may not be read.

        A program that is not trusted may read only files under `options.root`. `what` names the path in messages.
        """
        path = followed(node.source.folder / text)
        refused = refusal(path, self.options.root)
        if refused is not None:
            self.report.add("LMP103", node.place, f"{what} names {text}, which is not read: {refused}")
            return None
        return path

    def file(self, node: Node, what: str) -> Path | None:
        """Return the existing file that a node names, relative to the node's own file; None, with a finding, if there
        is none, it may not be read, or the node is no text. `what` says in messages what names the file."""
        text = node.plain()
        if not isinstance(text, str):
            self.report.add("LMP101", node.place, f"{what} must name a file")
            return None
        path = self.reachable(node, what, text)
        if path is None:
            return None
        if not is_file(path):
            self.report.add(
                "LMP103", node.place, f"{what} names the file {text}, which does not exist", fix=near_file(path)
            )
            return None
        return path


def near_file(path: Path) -> str | None:
    """Return the fix for a file that does not exist: the file beside it with a similar name, else that there is no such
    folder; None where neither holds."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"there is no folder {path.parent}"
    close = nearest(path.name, names)
    return f"did you mean `{close}`?" if close else None
