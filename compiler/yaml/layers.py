"""`extends`, `--set` and candidates: laying one spec over another."""

from __future__ import annotations

from collections.abc import Mapping as Map
from pathlib import Path
from typing import Any

from lmprog.compiler.findings.finding import Report
from lmprog.compiler.yaml.files import followed, is_file, refusal
from lmprog.compiler.yaml.laying import merged
from lmprog.compiler.yaml.reader import read_source
from lmprog.compiler.yaml.source import Mapping, Place, Scalar, Source, from_plain
from lmprog.compiler.yaml.writer import unwritable

OWN_KEYS = ("extends", "tuned")
"""Keys that are about the file that holds them, and are not inherited."""


def read_extended(
    path: Path,
    report: Report,
    around: tuple[Path, ...] = (),
    *,
    within: Path | None = None,
    named: Place | None = None,
) -> Mapping | None:
    """Return the tree of the file at `path`, merged over that of the file under `extends`, and so on; without `extends`, or
    with one that is no text (which gets a finding), the tree of the file alone.

    None, with findings, where a file cannot be read, may not be, does not exist, or the files extend each other in a
    circle. `around` are the files that extend this one. `within` is the folder of all files that a program that is not
    trusted may read (None: any may be), and `named` is the place in another program that names this one (None: none
    does).
    """
    root = read_source(path, report, within, named)
    if root is None:
        return None
    extends = root.get("extends")
    if extends is None:
        return root
    if not isinstance(extends, Scalar) or not isinstance(extends.value, str):
        report.add("LMP101", extends.place, "`extends` must name a file")
        return root
    base_path = followed(extends.source.folder / extends.value)
    refused = refusal(base_path, within)
    if refused is not None:
        report.add("LMP103", extends.place, f"`extends` names {extends.value}, which is not read: {refused}")
        return None
    if base_path in (*around, path):
        circle = (*around, path, base_path)
        names = tuple(file.name for file in circle[circle.index(base_path) :])
        report.add("LMP103", extends.place, "these files extend each other in a circle", path=names)
        return None
    if not is_file(base_path):
        message = f"`extends` names the file {extends.value}, which does not exist"
        report.add("LMP103", extends.place, message, fix="the path starts at the folder of this file")
        return None
    base = read_extended(base_path, report, (*around, path), within=within, named=extends.place)
    if base is None:
        return None
    kept = base.copy()
    for key in OWN_KEYS:
        kept.entries.pop(key, None)
        kept.keys.pop(key, None)
    return laid_over(kept, root)


def laid_over(base: Mapping, over: Mapping) -> Mapping:
    """Return the spec `over` merged over `base`, neither of which is changed. Where `over` gives an LM another model and
    does not say `trusted`, a `trusted: true` of `base` is dropped.
    """
    result = merged(base, over)
    below, above, lms = base.map("lms"), over.map("lms"), result.map("lms")
    for id in above.entries if above is not None and below is not None and lms is not None else ():
        old, new = below.map(id), above.map(id)  # type: ignore[union-attr]
        if old is None or new is None or "trusted" in new.entries or new.value("model") in (None, old.value("model")):
            continue
        entry = lms.map(id)  # type: ignore[union-attr]
        if entry is not None and entry.value("trusted") is True:
            del entry.entries["trusted"], entry.keys["trusted"]
    return result


def override(root: Mapping, overrides: Map[str, Any], report: Report) -> Mapping:
    """Return the spec with the values of `--set` laid over it, which are plain values by dotted path, as data.train.limit. A
    mapping merges with the one that is there; any other value replaces, as does a path through a list or scalar.

    Relative paths of files in the values start at the working directory. A dotted path with an empty part becomes a
    finding (LMP101) of `report`, and its value is left out.
    """
    for path, value in overrides.items():
        folder = Path.cwd()
        source = Source(folder, f"--set {path}", f"{path}={value}", folder)
        nested: Any = value
        *around, last = path.split(".")
        if not all(around) or not last:
            report.add("LMP101", Place(source, 1, 1), f"`{path}` is no path of keys, as data.train is")
            continue
        nested = {last: nested}
        for key in reversed(around):
            nested = {key: nested}
        over = from_plain(nested, source)
        assert isinstance(over, Mapping)
        root = laid_over(root, over)
    return root


def candidate(root: Mapping, change: Map[str, Any], report: Report) -> Mapping:
    """Return the spec with a candidate's change laid over it: by section and id the new keys, as in
    `{"modules": {"sort": {"instructions": ...}}}`. Relative paths in the change start at the spec's folder.

    A value that no file could hold, such as half a surrogate pair, becomes a finding (LMP101) of `report`, and stays.
    """
    source = Source(root.source.path, f"{root.source.name} (candidate)", "", root.source.folder)
    for section, entries in change.items():
        for id, entry in entries.items():
            of = f"{section.removesuffix('s')} `{id}`" if isinstance(entry, Map) else f"`{section}`"
            for key, value in (entry if isinstance(entry, Map) else {id: entry}).items():
                why = unwritable(value)
                if why is not None:
                    message = f"`{key}` of {of} holds {why}"
                    report.add("LMP101", Place(source, 1, 1), message, fix="leave it out")
    over = from_plain(dict(change), source)
    assert isinstance(over, Mapping)
    return laid_over(root, over)
