"""Conversion of what `lmprog.editing` finds to the types of the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lsprotocol import types
from pygls.uris import from_fs_path, to_fs_path

from lmprog.compiler.findings.finding import Edit, Finding
from lmprog.editing.actions import Action
from lmprog.editing.completion import Completions, Item
from lmprog.editing.hints import Hint
from lmprog.editing.hover import Hover
from lmprog.editing.navigation import Location
from lmprog.editing.session import Session
from lmprog.editing.text import Text, Units

SOURCE = "lmprog"
_SEVERITY = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "info": types.DiagnosticSeverity.Information,
}
_KIND = {
    "key": types.CompletionItemKind.Property,
    "name": types.CompletionItemKind.Reference,
    "field": types.CompletionItemKind.Field,
    "function": types.CompletionItemKind.Function,
    "value": types.CompletionItemKind.EnumMember,
    "model": types.CompletionItemKind.Value,
    "type": types.CompletionItemKind.TypeParameter,
    "file": types.CompletionItemKind.File,
}
UNREAD = "LMP202"
"""The code of findings on what nothing reads, which editors show faded."""


def path_of(uri: str) -> Path | None:
    """Return the path of a file's URI, with links followed; None for a URI of something else."""
    found = to_fs_path(uri)
    return Path(found).resolve() if found is not None else None


def uri_of(path: Path) -> str:
    """Return the URI of a file; empty where it has none."""
    return from_fs_path(str(path)) or ""


@dataclass(frozen=True)
class Wording:
    """A converter of places, findings and edits of a `session` to the editor's form, and back; the editor counts
    positions in `units`.

    `uris` has, by path, the URI under which the editor opened a file (None: none is open).
    """

    session: Session
    units: Units = "utf-16"
    uris: Mapping[Path, str] | None = None
    """The URIs of open files as the editor writes them."""

    def uri(self, path: Path) -> str:
        """Return the URI of a file as the editor opened it, else as it is usually written."""
        return (self.uris or {}).get(path) or uri_of(path)

    def place(self, path: Path, position: types.Position) -> tuple[int, int]:
        """Return the line and column, from 1, at an editor's position in the file `path`, or at the nearest place that
        its text has; a file that cannot be read has an empty text.
        """
        text = self.session.text(path)
        return text.place(text.from_editor(position.line, position.character, self.units))

    def range(self, text: Text, line: int, column: int, end_column: int) -> types.Range:
        """Return the editor's range for columns `column` to `end_column` (from 1, end exclusive) of a line; an end
        beyond the line becomes its end, and a line beyond the text the end of the text.
        """
        start, end = text.offset(line, column), text.offset(line, max(column, end_column))
        return types.Range(self.position(text, start), self.position(text, end))

    def position(self, text: Text, offset: int) -> types.Position:
        """Return the editor's position, from 0, of a character `offset` in a text."""
        return types.Position(*text.to_editor(offset, self.units))

    def location(self, location: Location) -> types.Location:
        """Return a place in a file (of a definition or a reference) in the editor's form."""
        text = self.session.text(location.path)
        return types.Location(
            self.uri(location.path),
            self.range(text, location.line, location.column, location.column + location.length),
        )

    def diagnostics(self, path: Path, findings: Iterable[Finding]) -> list[types.Diagnostic]:
        """Return findings, all of which must be in the file `path`, as diagnostics of the protocol."""
        text = self.session.text(path)
        return [self._diagnostic(text, finding) for finding in findings]

    def _diagnostic(self, text: Text, finding: Finding) -> types.Diagnostic:
        parts = [finding.message]
        if finding.path:
            parts.append("path: " + " -> ".join(finding.path))
        if finding.fix:
            parts.append(f"fix: {finding.fix}")
        return types.Diagnostic(
            self.range(text, finding.line, finding.column, finding.column + finding.length),
            "\n".join(parts),
            severity=_SEVERITY[finding.severity],
            code=finding.code,
            source=SOURCE,
            tags=[types.DiagnosticTag.Unnecessary] if finding.code == UNREAD else None,
        )

    def edits(self, path: Path, edits: Iterable[Edit]) -> list[types.TextEdit]:
        """Return edits of the file `path` in the editor's form."""
        text = self.session.text(path)
        return [types.TextEdit(self.range(text, one.line, one.column, one.end_column), one.text) for one in edits]

    def changes(self, edits: Mapping[Path, Iterable[Edit]]) -> types.WorkspaceEdit:
        """Return edits by file as one edit of the editor's workspace."""
        return types.WorkspaceEdit(changes={self.uri(path): self.edits(path, own) for path, own in edits.items()})

    def hover(self, path: Path, hover: Hover) -> types.Hover:
        """Return what an editor shows over a word of the file `path`, as Markdown, with the range of that word."""
        at = hover.at
        shown = self.range(self.session.text(path), at.line, at.column, at.column + at.length)
        return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, hover.text), shown)

    def completions(self, path: Path, position: types.Position, found: Completions) -> types.CompletionList:
        """Return completions at a position of the file `path` as a list of the protocol, in their order; each replaces the
        characters before the position that are typed already. The list is marked incomplete where it holds models, of which
        an editor asks for more as one types.
        """
        text = self.session.text(path)
        end = text.from_editor(position.line, position.character, self.units)
        replaced = types.Range(self.position(text, end - found.typed), self.position(text, end))
        # Editors sort by name, which would mix keys in the order of the language.
        items = [self._item(item, replaced, number) for number, item in enumerate(found.items)]
        return types.CompletionList(is_incomplete=any(item.kind == "model" for item in found.items), items=items)

    def _item(self, item: Item, replaced: types.Range, number: int) -> types.CompletionItem:
        about = types.MarkupContent(types.MarkupKind.Markdown, item.about) if item.about else None
        return types.CompletionItem(
            item.label,
            kind=_KIND[item.kind],
            detail=item.detail or None,
            documentation=about,
            sort_text=f"{number:04}",
            text_edit=types.TextEdit(replaced, item.insert or item.label),
        )

    def hint(self, path: Path, hint: Hint) -> types.InlayHint:
        """Return a text that an editor shows within a line of the file `path`, such as the type of a value, as an inlay
        hint.
        """
        text = self.session.text(path)
        return types.InlayHint(
            self.position(text, text.offset(hint.line, hint.column)),
            hint.text,
            kind=types.InlayHintKind.Type,
            tooltip=hint.about or None,
            padding_left=True,
            padding_right=True,
        )

    def action(self, path: Path, action: Action) -> types.CodeAction:
        """Return a fix of findings in the file `path` as a code action: a quick fix, or a fix of the whole file."""
        kind = types.CodeActionKind.SourceFixAll if action.whole_file else types.CodeActionKind.QuickFix
        return types.CodeAction(
            action.title,
            kind=kind,
            diagnostics=self.diagnostics(path, action.findings) or None,
            is_preferred=action.preferred or None,
            edit=self.changes({path: action.edits}),
        )
