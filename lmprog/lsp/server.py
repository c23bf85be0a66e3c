"""The language server: an editor's texts come in, and diagnostics, names, types, completions and fixes go out."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from lmprog.compiler.types.python_reference import forget
from lmprog.editing.actions import actions
from lmprog.editing.completion import completions
from lmprog.editing.hints import hints
from lmprog.editing.hover import hover
from lmprog.editing.navigation import CannotRename, definitions, references, renamable, renamed
from lmprog.editing.session import Checked, Session
from lmprog.editing.text import Units
from lmprog.lsp.wording import Wording, path_of
from lmprog.state.python_sources import sources
from lmprog.version import __version__

DELAY = 0.15
"""Seconds without a change after which a program is checked: people type on, and a check takes the processor."""
TRIGGERS = [".", "{", " ", "|", "/", "-", "["]
WATCHED = "**/*.{yaml,yml,py,jsonl,csv,tsv,json,txt}"

P = ParamSpec("P")
T = TypeVar("T")


class ProgramServer(LanguageServer):
    """The language server of one editor, which checks the open programs and answers its requests."""

    def __init__(self, imports: bool = True) -> None:
        # Whole texts: pygls applies changes by Python's line ends, which are more than those of the protocol.
        super().__init__("lmprog", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full)
        self.session = Session(imports=imports)
        self.uris: dict[Path, str] = {}
        self._worker = ThreadPoolExecutor(1)  # checks and look-ups one after another, away from the protocol's loop
        self._waiting: dict[Path, asyncio.TimerHandle] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self._checked: dict[Path, Checked] = {}
        self._published: dict[Path, set[Path]] = {}

    @property
    def wording(self) -> Wording:
        """The converter to the protocol's types, in the units of positions that the editor has chosen (UTF-16 where it
        chose none).
        """
        chosen = self.workspace.position_encoding
        name = chosen.value if isinstance(chosen, types.PositionEncodingKind) else chosen
        units: Units = "utf-8" if name == "utf-8" else "utf-32" if name == "utf-32" else "utf-16"
        return Wording(self.session, units, self.uris)

    async def work(self, function: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Call `function` with these arguments in the one worker thread, after all earlier calls; return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, lambda: function(*given, **named))

    # texts and diagnostics

    def opened(self, uri: str, text: str) -> None:
        """Store the text of a file as the editor has it, opened or changed, and check the open programs that it belongs to
        soon; nothing for a URI of no file.
        """
        path = path_of(uri)
        if path is None:
            return
        self.uris[path] = uri
        self.session.texts[path] = text
        self.changed([path])

    def closed(self, uri: str) -> None:
        """Forget the editor's text of a file, so that the file on the disk counts again; the diagnostics of a closed
        program are removed, and other open programs that depend on the file are checked. Nothing happens for a URI of
        no file.
        """
        path = path_of(uri)
        if path is None:
            return
        depending = [one for one in self.session.depending(path) if one != path]
        self.session.close(path)
        waiting = self._waiting.pop(path, None)
        if waiting is not None:
            waiting.cancel()
        self._checked.pop(path, None)
        self._publish(self._published.pop(path, set()))
        self.uris.pop(path, None)
        for one in depending:
            self.check_soon(one)

    def changed(self, paths: Iterable[Path]) -> None:
        """Check soon the open programs that depend on files which have changed; of a file that is no program any more the
        diagnostics are removed.
        """
        for path in paths:
            for program in self.session.depending(path):
                if self.session.is_program(program):
                    self.check_soon(program)
                elif program in self._checked:
                    self._checked.pop(program)
                    self._publish(self._published.pop(program, set()))

    def saved(self, paths: list[Path]) -> None:
        """Check soon the open programs that depend on files which have changed on the disk; Python files are imported again
        for that. Files that the editor has open count by the editor's text.
        """
        changed = {path for path in paths if path.suffix == ".py"}
        for checked in list(self._checked.values()):
            for file in [file for file in checked.seen if file.suffix == ".py"]:
                parts = sources(file)
                if not changed.isdisjoint(parts):
                    forget(parts)
                    self.check_soon(checked.path)
        self.changed(path for path in paths if path not in self.session.texts)

    def check_soon(self, program: Path) -> None:
        """Check a program once DELAY seconds (0.15) have passed without a further change of it."""
        waiting = self._waiting.pop(program, None)
        if waiting is not None:
            waiting.cancel()
        self._waiting[program] = asyncio.get_running_loop().call_later(DELAY, self._begin, program)

    def _begin(self, program: Path) -> None:
        self._waiting.pop(program, None)
        task = asyncio.get_running_loop().create_task(self._check(program))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _check(self, program: Path) -> None:
        try:
            checked = await self.work(self.session.check, program)
        except Exception as error:
            # A defect of lmprog's, which must not end the server: the next change of the text may avoid it.
            traceback.print_exc()
            said = f"lmprog failed on {program.name} ({type(error).__name__}: {error}); the server's output has the traceback"
            self.window_log_message(types.LogMessageParams(types.MessageType.Error, said))
            return
        if self.session.texts.get(program) != checked.text or program in self._waiting:
            return  # it has changed meanwhile, and is checked again
        self._checked[program] = checked
        files = set(checked.by_file)
        before, self._published[program] = self._published.get(program, set()), files
        self._publish(before | files)

    def _publish(self, files: Iterable[Path]) -> None:
        """Send the editor the diagnostics of files, each with the findings of all open programs about it; a file without
        findings gets an empty list.
        """
        for file in files:
            found = dict.fromkeys(
                finding for checked in self._checked.values() for finding in checked.by_file.get(file, ())
            )
            wording = self.wording
            self.text_document_publish_diagnostics(
                types.PublishDiagnosticsParams(wording.uri(file), wording.diagnostics(file, found))
            )

    def program(self, uri: str) -> Path | None:
        """Return the path of the program or overlay with a URI, open or not; None for other files, and for a URI of no file."""
        path = path_of(uri)
        return path if path is not None and self.session.is_program(path) else None


def made(imports: bool = True) -> ProgramServer:
    """Return a server with all its features registered; with `imports` False it imports no code of the programs."""
    server = ProgramServer(imports)
    _texts(server)
    _features(server)
    return server


def _texts(server: ProgramServer) -> None:
    @server.feature(types.INITIALIZED)
    async def ready(params: types.InitializedParams) -> None:
        folders = [path_of(uri) for uri in server.workspace.folders] or [path_of(server.workspace.root_uri or "")]
        server.session.folders = tuple(folder for folder in folders if folder is not None)
        client = server.client_capabilities.workspace
        watched = client.did_change_watched_files if client is not None else None
        if watched is not None and watched.dynamic_registration:
            options = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher(WATCHED)])
            registration = types.Registration("files", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
            await server.client_register_capability_async(types.RegistrationParams([registration]))

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    async def open(params: types.DidOpenTextDocumentParams) -> None:
        server.opened(params.text_document.uri, params.text_document.text)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    async def change(params: types.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        server.opened(uri, server.workspace.get_text_document(uri).source)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    async def close(params: types.DidCloseTextDocumentParams) -> None:
        server.closed(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    async def save(params: types.DidSaveTextDocumentParams) -> None:
        path = path_of(params.text_document.uri)
        server.saved([path] if path is not None else [])

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    async def on_disk(params: types.DidChangeWatchedFilesParams) -> None:
        server.saved([path for change in params.changes if (path := path_of(change.uri)) is not None])


def _features(server: ProgramServer) -> None:
    @server.feature(types.TEXT_DOCUMENT_HOVER)
    async def on_hover(params: types.HoverParams) -> types.Hover | None:
        path = server.program(params.text_document.uri)
        if path is None:
            return None
        found = await server.work(hover, server.session, path, *server.wording.place(path, params.position))
        return None if found is None else server.wording.hover(path, found)

    @server.feature(types.TEXT_DOCUMENT_DEFINITION)
    async def on_definition(params: types.DefinitionParams) -> list[types.Location]:
        path = server.program(params.text_document.uri)
        if path is None:
            return []
        found = await server.work(definitions, server.session, path, *server.wording.place(path, params.position))
        return [server.wording.location(one) for one in found]

    @server.feature(types.TEXT_DOCUMENT_REFERENCES)
    async def on_references(params: types.ReferenceParams) -> list[types.Location]:
        path = server.program(params.text_document.uri)
        if path is None:
            return []
        place = server.wording.place(path, params.position)
        found = await server.work(references, server.session, path, *place, params.context.include_declaration)
        return [server.wording.location(one) for one in found]

    @server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
    async def on_prepare(params: types.PrepareRenameParams) -> types.PrepareRenamePlaceholder:
        path = server.program(params.text_document.uri)
        if path is None:
            raise JsonRpcInvalidParams("this file is no program")
        place = server.wording.place(path, params.position)
        found = await _renaming(server.work(renamable, server.session, path, *place))
        text = server.session.text(path)
        at = server.wording.range(text, found.place.line, found.place.column, found.place.column + found.place.length)
        return types.PrepareRenamePlaceholder(at, found.name)

    @server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
    async def on_rename(params: types.RenameParams) -> types.WorkspaceEdit | None:
        path = server.program(params.text_document.uri)
        if path is None:
            raise JsonRpcInvalidParams("this file is no program")
        place = server.wording.place(path, params.position)
        edits = await _renaming(server.work(renamed, server.session, path, *place, params.new_name))
        return server.wording.changes(edits)

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=TRIGGERS))
    def on_completion(params: types.CompletionParams) -> types.CompletionList:
        path = path_of(params.text_document.uri)
        if path is None or path not in server.session.texts or path.suffix not in (".yaml", ".yml"):
            return types.CompletionList(False, [])
        # A file in which `lmprog: 1` is being typed is no program yet.
        if not server.session.is_program(path) and server.session.text(path).raw.count("\n") > 1:
            return types.CompletionList(False, [])
        found = completions(server.session, path, *server.wording.place(path, params.position))
        return server.wording.completions(path, params.position, found)

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions([types.CodeActionKind.QuickFix, types.CodeActionKind.SourceFixAll]),
    )
    async def on_action(params: types.CodeActionParams) -> list[types.CodeAction]:
        path = server.program(params.text_document.uri)
        if path is None:
            return []
        first, last = (server.wording.place(path, at)[0] for at in (params.range.start, params.range.end))
        found = await server.work(actions, server.session, path, first, last)
        wanted = params.context.only
        every = [server.wording.action(path, one) for one in found]
        return [one for one in every if wanted is None or any(_is_kind(one, kind) for kind in wanted)]

    @server.feature(types.TEXT_DOCUMENT_INLAY_HINT)
    async def on_hints(params: types.InlayHintParams) -> list[types.InlayHint]:
        path = server.program(params.text_document.uri)
        if path is None:
            return []
        found = await server.work(hints, server.session, path)
        first, last = params.range.start.line, params.range.end.line
        every = [server.wording.hint(path, one) for one in found]
        return [one for one in every if first <= one.position.line <= last]


async def _renaming(work: Awaitable[T]) -> T:
    """Return the result of `work`, a look-up or a renaming; where a name cannot be renamed, raise JsonRpcInvalidParams,
    whose message the editor shows.
    """
    try:
        return await work
    except CannotRename as error:
        raise JsonRpcInvalidParams(str(error)) from None


def _is_kind(action: types.CodeAction, kind: types.CodeActionKind | str) -> bool:
    wanted = kind.value if isinstance(kind, types.CodeActionKind) else kind
    own = action.kind.value if isinstance(action.kind, types.CodeActionKind) else str(action.kind)
    return own == wanted or own.startswith(f"{wanted}.")
