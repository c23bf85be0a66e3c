"""The reader of YAML: scalars of YAML 1.2, no duplicate keys, and the place of every node."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.resolver import BaseResolver

from lmprog.compiler.findings.finding import Edit, Report, nearest
from lmprog.compiler.yaml.files import NotRead, note, read_text, refusal, unsaved_text
from lmprog.compiler.yaml.source import Mapping, Node, Place, Scalar, Sequence, Source, shown_path

if yaml.__with_libyaml__:
    from yaml.cyaml import CParser as _Parser  # type: ignore[attr-defined]
else:
    from yaml.composer import Composer
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class _Parser(Reader, Scanner, Parser, Composer):  # type: ignore[no-redef]
        def __init__(self, text: str) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)
            Composer.__init__(self)


MAX_DEPTH = 100
"""Maximum depth of mappings and lists within each other."""
MAX_NODES = 1_000_000
"""Maximum nodes of a file, those of an alias counted wherever it stands."""


_TAG = "tag:yaml.org,2002:"
_STR, _NULL = _TAG + "str", _TAG + "null"


class _Loader(_Parser, BaseResolver):
    def __init__(self, text: str) -> None:
        _Parser.__init__(self, text)
        BaseResolver.__init__(self)

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        """Return the tag of a node that has none, as the base class does, but faster: it needs no rules by path."""
        if kind is not yaml.ScalarNode:
            return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]
        if implicit[0]:
            for tag, pattern in self.yaml_implicit_resolvers.get(value[:1], ()):
                if pattern.match(value):
                    return str(tag)
        return _STR


for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


_KNOWN_TAGS = frozenset({"!", *(_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map"))})
"""The tags of YAML's core schema, and the one that says that there is none."""


def is_plain_text(text: str) -> bool:
    """Return whether the text of an unquoted scalar is read as a string by YAML 1.2: `12e4` is not, though YAML 1.1 reads
    it as one."""
    resolvers = _Loader.yaml_implicit_resolvers.get(text[:1], [])
    return not any(pattern.match(text) for _, pattern in resolvers)


DIFFERENT = re.compile(
    r"^(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|[-+]?0[0-9]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$"
)
"""An unquoted text that YAML 1.1 and 1.2 read as different values."""

_FIRST_OF_DOUBTED = "yYnNoO+-0123456789\u201c\u201e\u2018"
"""The characters that a plain text begins with which may be read as something else."""
_DOUBTED = re.compile(rf"{DIFFERENT.pattern}|[\u201c\u201e\u2018]")

_parsed: dict[Path, tuple[tuple[int | str, ...], Source, Node | None, Report]] = {}


def read_source(path: Path, report: Report, within: Path | None = None, named: Place | None = None) -> Mapping | None:
    """Return the mapping that the file at `path` holds, which callers share and must not change; None, with findings in
    `report`, where the file cannot be read or holds no program. Nothing is raised.

    An unchanged file (by time, size and name as shown, or by its unsaved text) is parsed once a process. A file outside
    of the folder `within` (None: no limit) is not read. `named` is the place in another program that names the file
    (None: none does); findings of an unreadable one stand there, and no word of a file that is no program is shown.
    """
    try:
        refused = refusal(path, within)
        if refused is not None:
            raise NotRead(refused)
        note(path)
        unsaved = unsaved_text(path)
        stamp = (*(_stamp(path) if unsaved is None else (unsaved,)), shown_path(path))
        kept = _parsed.get(path)
        if kept is None or kept[0] != stamp:
            source = Source(path, shown_path(path), read_text(path), path.parent)
            own = Report()
            kept = _parsed[path] = (stamp, source, parse(source, own), own)
    except (OSError, NotRead) as error:
        empty = Source(path, shown_path(path), "", path.parent)
        cause = getattr(error, "strerror", None) or str(error)
        code = "LMP101" if "UTF-8" in cause else "LMP103"
        report.add(code, named or Place(empty, 1, 1), f"cannot read {empty.name}: {cause}")
        return None
    _, source, root, own = kept
    if not source.is_program:
        if named is not None:
            message = f"{source.name} is no program: it has no key `lmprog`"
            report.add("LMP101", named, message, fix="write `lmprog: 1` as its first line")
            return None
        if not isinstance(root, Mapping) or not any(nearest(key, ["lmprog"]) for key in root.entries):
            # Not a word of it is shown: it may be any file of the machine.
            message = "the key `lmprog` is missing: the version of the language"
            if not isinstance(root, Mapping):
                message = "a program is a mapping, and this file holds none"
            report.add("LMP101", Place(source, 1, 1), message, fix="write `lmprog: 1` as the first line")
            return None
    report.sources[source.name] = source
    report.findings.update(own.findings)
    if isinstance(root, Mapping):
        return root
    if not own.findings:
        report.add(
            "LMP101",
            Place(source, 1, 1),
            "a program is a mapping, and this file holds none",
            fix="begin with `lmprog: 1`",
        )
    return None


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def parse(source: Source, report: Report) -> Node | None:
    """Return the root node of a YAML text; None where it cannot be read, with a finding in `report`, and for a text that
    holds no value, such as an empty one, without a finding. Other mistakes go to `report` too."""
    if _far_too_deep(source.text):
        report.add("LMP101", Place(source, 1, 1), "the file is nested too deeply to read")
        return None
    try:
        loader = _Loader(source.text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        _syntax(source, report, error)
        return None
    except RecursionError:
        report.add("LMP101", Place(source, 1, 1), "the file is nested too deeply to read")
        return None
    if root is None:
        return None
    try:
        if "*" in source.text and unfolded(root, {}) > MAX_UNFOLDED:
            report.add("LMP101", Place(source, 1, 1), "the aliases of this file stand for too much to read")
            return None
        return _Converter(source, report).node(root)
    except RecursionError:
        report.add("LMP101", Place(source, 1, 1), "the file is nested too deeply to read")
        return None


MAX_UNFOLDED = 200_000
"""Maximum nodes of a file with aliases, each counted wherever an alias repeats it."""


def unfolded(node: Any, known: dict[int, int]) -> int:
    """Return the number of nodes in a node of the YAML library, itself included, with those of an alias counted wherever
    it stands; by it files that would grow without bound are refused. A node that holds itself counts as 1 within itself.
    `known` holds counts by `id(node)`, and is filled. Raises RecursionError for a node that is nested too deep.
    """
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = 1  # one that holds itself is reported when it is read
    parts: list[Any] = []
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.MappingNode):
        parts = [value for _, value in node.value]
    known[id(node)] = 1 + sum(unfolded(part, known) for part in parts)
    return known[id(node)]


_COMPACT = re.compile(r"(?:[-?:][ \t]+){2000}")


def _far_too_deep(text: str) -> bool:
    """Return whether a text is nested so deeply, in 2000 brackets or list marks, that the recursion of the C library would
    end the process. Brackets in strings count too, which does no harm in practice.
    """
    if _COMPACT.search(text):
        return True
    if text.count("[") + text.count("{") < 2000:
        return False
    depth = 0
    for match in re.finditer(r"[\[{\]}]", text):
        depth += 1 if match[0] in "[{" else -1
        if depth > 2000:
            return True
    return False


_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufffe\uffff]")


def _syntax(source: Source, report: Report, error: yaml.YAMLError) -> None:
    """Report the mistake for which the YAML library refuses a text, explained where it is a known slip."""
    # Here and below: what is said of slips is imported where there is one.
    from lmprog.compiler.yaml.slips import slip

    if isinstance(error, yaml.reader.ReaderError) and (odd := _UNWRITABLE.search(source.text)):
        before = source.text[: odd.start()]
        place = Place(source, before.count("\n") + 1, odd.start() - before.rfind("\n"))
        message = f"U+{ord(odd[0]):04X} is a control character, which YAML cannot hold"
        report.add("LMP101", place, message, fix="remove it, or write it in double quotes as an escape, such as \\x00")
        return
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    context = getattr(error, "context_mark", None)
    found = slip(source.lines, line, column, context.line + 1 if context else line, problem)
    report.add("LMP101", Place(source, found.line, found.column, found.length), found.message, fix=found.fix)


class _Converter:
    """A converter from the nodes of the YAML library to those of `source.py`; mistakes go to the report."""

    def __init__(self, source: Source, report: Report) -> None:
        self.source, self.report = source, report
        self.count = 0
        self.open: set[int] = set()

    def node(self, node: Any) -> Node | None:
        """Return the node for one of the library; None, with a finding, where it cannot be read. A list or mapping lacks the
        parts that cannot be read."""
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self.count += 1
        if node.tag not in _KNOWN_TAGS:
            self._strange_tag(node, Place(self.source, line, column))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, line, column)
        if id(node) in self.open or self.count > MAX_NODES:
            self.report.add("LMP101", Place(self.source, line, column), "an alias that holds itself, or too many")
            return None
        if len(self.open) > MAX_DEPTH:
            self.report.add("LMP101", Place(self.source, line, column), "this is nested too deeply to read")
            return None
        self.open.add(id(node))
        result = (
            self.sequence(node, line, column)
            if isinstance(node, yaml.SequenceNode)
            else self.mapping(node, line, column)
        )
        self.open.discard(id(node))
        return result

    def _strange_tag(self, node: Any, place: Place) -> None:
        """Report a tag other than those of YAML's core schema, at whose value an author expects something else."""
        shown = "!!" + node.tag.removeprefix(_TAG) if node.tag.startswith(_TAG) else node.tag
        fix = (
            "name files where the language takes them: vars: {rules: {file: rules.txt}}" if "include" in shown else None
        )
        message = f"`{shown}` is a tag of YAML that has no meaning here"
        self.report.add("LMP101", place, message, fix=fix or "write the value without the tag")

    def scalar(self, node: Any, line: int, column: int) -> Scalar:
        text, style = node.value, node.style
        if style == ">" or (not style and text[:1] in _FIRST_OF_DOUBTED and _DOUBTED.match(text)):
            self._doubted(node, text, Place(self.source, line, column, 1 if style else len(text)))
        return Scalar(self.source, line, column, _value(node.tag, text), text, style)

    def _doubted(self, node: Any, text: str, place: Place) -> None:
        """Warn of a scalar that is read as something else than it seems to say: a folded list, a word or number that versions
        of YAML read differently, a text in curly quotes."""
        from lmprog.compiler.yaml.slips import folded_list, in_curly_quotes

        if node.style:
            if folded_list(self.source.lines, place.line + 1, node.end_mark.line):
                message = "`>` makes one line of this text, and of the list in it"
                self.report.add("LMP102", place, message, fix="write | for >", severity="warning")
        elif node.tag != _NULL and DIFFERENT.match(text):
            end = place.column + len(text)
            self.report.add(
                "LMP102",
                place,
                f"`{text}` without quotes is read differently by YAML 1.1 and 1.2",
                fix=f'write "{text}"',
                severity="warning",
                edit=Edit(place.line, place.column, end, f'"{text}"') if node.tag == _STR else None,
            )
        elif curly := in_curly_quotes(text):
            message = "curly quotes are letters of the text in YAML, and no quotes"
            self.report.add("LMP102", place, message, fix=f'write "{curly}"', severity="warning")

    def sequence(self, node: Any, line: int, column: int) -> Sequence:
        items = [self.node(item) for item in node.value]
        return Sequence(self.source, line, column, [item for item in items if item is not None])

    def mapping(self, node: Any, line: int, column: int) -> Mapping | None:
        entries: dict[str, Node] = {}
        keys: dict[str, Scalar] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                place = Place(self.source, key_node.start_mark.line + 1, max(1, key_node.start_mark.column), 2)
                self.report.add(
                    "LMP101",
                    place,
                    "a key must be a word; a template that starts with {{ needs quotes",
                    fix="quote it or put it on its own line",
                )
                return None
            mark = key_node.start_mark
            key = self.scalar(key_node, mark.line + 1, mark.column + 1)
            if key.text in entries:
                first = keys[key.text]
                self.report.add(
                    "LMP102",
                    key.place,
                    f"the key `{key.text}` stands twice; it was first given in line {first.line}",
                    fix="remove one of them",
                )
                continue
            value = self.node(value_node)
            if value is not None:
                entries[key.text], keys[key.text] = value, key
        return Mapping(self.source, line, column, entries, keys)


def _value(tag: str, text: str) -> Any:
    """Return the value of a scalar by its tag; the text itself for another tag, and for a number that cannot be read."""
    if tag == _STR:
        return text
    kind = tag.removeprefix(_TAG)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    try:
        if kind == "int":
            number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            str(number)  # what Python cannot write, no message and no prompt can
            return number
        if kind == "float":
            return float(
                text.replace(".inf", "inf")
                .replace(".Inf", "inf")
                .replace(".INF", "inf")
                .replace(".nan", "nan")
                .replace(".NaN", "nan")
                .replace(".NAN", "nan")
            )
    except ValueError:
        return text
    return text


def value_of(text: str, where: str) -> Any:
    """Return the plain value of a text typed on the command line or elsewhere, read as YAML. `where` names the place.

    Raises ValueError for an empty text, and for one with a mistake, such as a key that stands twice.
    """
    report = Report()
    node = parse(Source(Path.cwd(), where, text, Path.cwd()), report)
    if node is None or report.failed:
        said = next((f": {found.message}" for found in report.findings.values() if found.severity == "error"), "")
        raise ValueError(f"{text!r} cannot be read as YAML{said}")
    return node.plain()
