"""The programs that an editor has open: their texts, the result of the last check of each, and the names in them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from operator import is_
from pathlib import Path

from lmprog.compiler.compilation import Compilation, compile_file
from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import Finding, Report
from lmprog.compiler.plan import Plan
from lmprog.compiler.yaml import layers, reader
from lmprog.compiler.yaml.files import NotRead, read_text, reading, refusal, root_of
from lmprog.compiler.yaml.program_files import yaml_files
from lmprog.compiler.yaml.source import Mapping as Node
from lmprog.compiler.yaml.source import Source
from lmprog.editing.lenient import lenient
from lmprog.editing.names import Mention, mentions
from lmprog.editing.prompts import Prompt, prompts
from lmprog.editing.structure import Structure
from lmprog.editing.text import Text
from lmprog.optimizers.optimizer import installed, options_of

_EXTENDS = re.compile(r"^extends[ \t]*:", re.MULTILINE)


@dataclass(frozen=True)
class Checked:
    """The result of checking the program at `path` with its `text` in the editor then (empty: it was not open): findings, draft
    and plan, in `compilation`.

    `seen` are all files that the check looked at.
    """

    path: Path
    text: str
    compilation: Compilation
    seen: frozenset[Path]
    """The files that the check looked at."""

    @property
    def by_file(self) -> dict[Path, list[Finding]]:
        """The findings by the resolved path of their file; the program's own file is always among them."""
        found: dict[Path, list[Finding]] = {self.path: []}
        for finding in self.compilation.findings:
            found.setdefault(Path(os.path.abspath(finding.file)).resolve(), []).append(finding)
        return found


@dataclass
class Session:
    """The texts of the files that are open in an editor, and the last checks of their programs; paths are absolute.

    `folders` are those of the workspace. With `imports` False the workspace is not trusted, and no code of it is imported.
    """

    imports: bool = True
    """False: no code of a program is imported, and nothing outside of its checkout or folder is read."""
    folders: tuple[Path, ...] = ()
    """The folders of the workspace, in which other files of a program are looked for."""
    texts: dict[Path, str] = field(default_factory=dict)
    _checked: dict[Path, Checked] = field(default_factory=dict)
    _drafts: dict[Path, Draft] = field(default_factory=dict)
    _plans: dict[Path, Plan] = field(default_factory=dict)
    _prompts: dict[Path, tuple[Plan, list[Prompt]]] = field(default_factory=dict)
    _mentions: dict[Path, tuple[list[Node | None], list[Mention]]] = field(default_factory=dict)

    def text(self, path: Path) -> Text:
        """Return the text of a file: the editor's, else the one on disk; empty where it cannot be read."""
        held = self.texts.get(path)
        if held is not None:
            return Text(held)
        try:
            return Text(read_text(path, self.confines(path)))
        except NotRead:
            return Text("")

    def confines(self, path: Path) -> Path | None:
        """Return the folder that limits which files a program may read; None where it is trusted."""
        return None if self.imports else root_of(path)

    def is_program(self, path: Path) -> bool:
        """Return whether a file is a program or an overlay, by its ending and its keys; False where it cannot be read."""
        return path.suffix in (".yaml", ".yml") and Source(path, path.name, self.text(path).raw, path.parent).is_program

    def close(self, path: Path) -> None:
        """Forget the text and the checks of a file that the editor has closed."""
        for known in (self.texts, self._checked, self._drafts, self._plans, self._prompts, self._mentions):
            known.pop(path, None)

    # what a check says

    def check(self, path: Path) -> Checked:
        """Compile the program at `path`, with the editor's texts in place of the files that it has open; keep the result,
        and its draft and plan where it has them, and return it."""
        with reading(dict(self.texts)) as seen:
            compilation = compile_file(
                path,
                imports=self.imports,
                stage_configs=options_of,
                stage_names=installed,
                confined=not self.imports,
            )
        checked = Checked(path, self.texts.get(path, ""), compilation, frozenset(seen))
        self._checked[path] = checked
        if compilation.draft is not None:
            self._drafts[path] = compilation.draft
        if compilation.plan is not None:
            self._plans[path] = compilation.plan
        return checked

    def checked(self, path: Path) -> Checked:
        """Return the last check of a program; a new one where there is none, or the editor's text of its own file has
        changed since (changes of other files do not count)."""
        last = self._checked.get(path)
        return last if last is not None and last.text == self.texts.get(path, "") else self.check(path)

    def depending(self, path: Path) -> list[Path]:
        """Return the open files whose last check looked at the file `path`; that file first, if it is open itself."""
        return sorted(
            (open for open in self.texts if open == path or ((last := self._checked.get(open)) and path in last.seen)),
            key=lambda open: open != path,
        )

    def draft(self, path: Path) -> Draft | None:
        """Return the draft of the last check in which the file could be read; None where there is no such check."""
        return self._drafts.get(path)

    def plan(self, path: Path) -> Plan | None:
        """Return the plan of the last check without errors; None where there is none."""
        return self._plans.get(path)

    def prompts(self, path: Path) -> list[Prompt]:
        """Return the prompts of a program for its first row, by the last check without errors, made once for it; empty until
        there is one. Raises the errors of `lmprog.editing.prompts.prompts`."""
        plan, draft = self._plans.get(path), self._drafts.get(path)
        if plan is None or draft is None:
            return []
        kept = self._prompts.get(path)
        if kept is None or kept[0] is not plan:
            self._prompts[path] = kept = (plan, prompts(draft, plan))
        return kept[1]

    # the names in files

    def parsed(self, path: Path) -> Node | None:
        """Return the YAML tree of a file alone, as the editor holds it, without the file that it extends; lines that
        are no YAML are left out. None where nothing of it can be read."""
        with reading(dict(self.texts)):
            report = Report()
            root = reader.read_source(path, report, self.confines(path))
        return root if root is not None else lenient(path, self.text(path).raw)

    def wrong(self, path: Path) -> Finding | None:
        """Return the finding on why a file cannot be parsed whole; None where it can."""
        report = Report()
        with reading(dict(self.texts)):
            reader.read_source(path, report, self.confines(path))
        return next((finding for finding in report.findings.values() if finding.severity == "error"), None)

    def structure(self, path: Path) -> Structure | None:
        """Return the steps, modules and tools of a program, with those of the file that it extends, or without them where one
        of the two cannot be parsed whole; None where nothing of the program's own file can be read.
        """
        own = self.parsed(path)
        if own is None:
            return None
        if own.get("extends") is None:
            return Structure(own)
        with reading(dict(self.texts)):
            whole = layers.read_extended(path, Report(), within=self.confines(path))
        return Structure(whole if whole is not None else own)

    def mentions(self, path: Path) -> list[Mention]:
        """Return the names in a file, in its order, as the editor holds it; empty where nothing of it can be read."""
        roots = [self.parsed(file) for file in self.bases(path)]
        kept = self._mentions.get(path)
        # A text that has not changed has the very same tree.
        if kept is not None and len(kept[0]) == len(roots) and all(map(is_, kept[0], roots)):
            return kept[1]
        structure = self.structure(path)
        found = mentions(roots[0], structure) if roots[0] is not None and structure is not None else []
        self._mentions[path] = (roots, found)
        return found

    def bases(self, path: Path) -> list[Path]:
        """Return the file `path`, the file that it extends, and so on to the one that extends none; a file that is reached
        again ends the list, as does one that does not exist, which is the last."""
        found = [path]
        while (base := self._base(found[-1])) is not None and base not in found:
            found.append(base)
        return found

    def _base(self, path: Path) -> Path | None:
        """Return the file that a file extends, which need not exist; None where it extends none."""
        root = self.parsed(path)
        named = root.value("extends") if root is not None else None
        return (path.parent / named).resolve() if isinstance(named, str) else None

    def family(self, path: Path) -> list[Path]:
        """Return all files of the program that a file belongs to: itself, the files that it extends, and the open files and
        files of the workspace that extend the last of these, directly or through others."""
        bases = self.bases(path)
        found = dict.fromkeys(bases)
        overlays = {file: self.bases(file) for file in self._overlays(bases[-1]) if file not in found}
        for file, chain in overlays.items():
            if bases[-1] in chain:
                found |= dict.fromkeys((file, *chain))
        return list(found)

    def callers(self, files: Collection[Path]) -> list[Path]:
        """Return the open files and files of the workspace, `files` left out, that seem to run one of the programs `files`:
        their text has `program:` and the name of its file."""
        names = {file.name for file in files}
        found = (file for file in self._yaml_files(files) if file not in files)
        return [
            file for file in found if "program:" in (raw := self.text(file).raw) and any(name in raw for name in names)
        ]

    def _yaml_files(self, files: Iterable[Path]) -> list[Path]:
        """Return the open YAML files, and those of the workspace; where files lie outside of it, of their folders."""
        folders = dict.fromkeys(
            next((folder for folder in self.folders if file.is_relative_to(folder)), file.parent) for file in files
        )
        every = (*self.texts, *(file.resolve() for folder in folders for file in self._below(folder)))
        return [file for file in dict.fromkeys(every) if file.suffix in (".yaml", ".yml")]

    def _below(self, folder: Path) -> Iterator[Path]:
        """Yield the YAML files below a folder; in a workspace that is not trusted without links that lead outside of it."""
        return (file for file in yaml_files(folder) if refusal(file, self.confines(file)) is None)

    def _overlays(self, base: Path) -> Iterator[Path]:
        """Yield the open files, and those of the workspace or else of the base's folder, that extend some file."""
        return (file for file in self._yaml_files([base]) if _EXTENDS.search(self.text(file).raw))
