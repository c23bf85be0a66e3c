"""An editor without a screen: it starts the real `lmprog lsp`, and speaks the protocol to it over its standard input."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from tests.waiting import PATIENCE


class Editor:
    """The files that are open, and the diagnostics that were last sent for each file."""

    def __init__(self, client: LanguageClient) -> None:
        self.client = client
        self.versions: dict[str, int] = {}
        self.diagnostics: dict[str, list[types.Diagnostic]] = {}
        self.registered: list[str] = []
        self._sent = asyncio.Condition()

    async def take(self, params: types.PublishDiagnosticsParams) -> None:
        async with self._sent:
            self.diagnostics[params.uri] = list(params.diagnostics)
            self._sent.notify_all()

    async def until(self, path: Path, *codes: str) -> list[types.Diagnostic]:
        """Wait until the diagnostics of a file have these codes, in the order of the file, and return them."""
        uri = path.as_uri()

        def codes_of() -> list[Any] | None:
            found = self.diagnostics.get(uri)
            return None if found is None else [one.code for one in found]

        async with self._sent:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._sent.wait_for(lambda: codes_of() == list(codes))
            except TimeoutError:
                raise AssertionError(f"{path.name} has {self.diagnostics.get(uri)}") from None
        return self.diagnostics[uri]

    def open(self, path: Path, text: str | None = None) -> None:
        written = path.read_text(encoding="utf-8") if text is None else text
        self.versions[path.as_uri()] = 1
        self.client.text_document_did_open(
            types.DidOpenTextDocumentParams(types.TextDocumentItem(path.as_uri(), "yaml", 1, written))
        )

    def change(self, path: Path, text: str) -> None:
        uri = path.as_uri()
        self.versions[uri] += 1
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(uri=uri, version=self.versions[uri]),
                [types.TextDocumentContentChangeWholeDocument(text)],
            )
        )

    def close(self, path: Path) -> None:
        self.client.text_document_did_close(
            types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(path.as_uri()))
        )

    def saved(self, path: Path) -> None:
        """Say that a file has changed on the disk."""
        event = types.FileEvent(path.as_uri(), types.FileChangeType.Changed)
        self.client.workspace_did_change_watched_files(types.DidChangeWatchedFilesParams([event]))


@asynccontextmanager
async def editor(folder: Path, *options: str, encodings: list[str] | None = None) -> AsyncIterator[Editor]:
    """Start a server for a folder, and end it as the protocol says; its exit status must be 0."""
    client = LanguageClient("tests", "1")
    own = Editor(client)

    @client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    async def take(params: types.PublishDiagnosticsParams) -> None:
        await own.take(params)

    @client.feature(types.CLIENT_REGISTER_CAPABILITY)
    def register(params: types.RegistrationParams) -> None:
        own.registered += [one.method for one in params.registrations]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    await client.start_io(
        sys.executable, "-c", "from lmprog.cli.main import main; main()", "lsp", *options, cwd=folder, env=environment
    )
    watched = types.DidChangeWatchedFilesClientCapabilities(dynamic_registration=True)
    capabilities = types.ClientCapabilities(
        workspace=types.WorkspaceClientCapabilities(did_change_watched_files=watched),
        general=types.GeneralClientCapabilities(position_encodings=encodings),
    )
    root = [types.WorkspaceFolder(folder.as_uri(), folder.name)]
    await client.initialize_async(types.InitializeParams(capabilities, workspace_folders=root))
    client.initialized(types.InitializedParams())
    try:
        yield own
        await asyncio.wait_for(client.shutdown_async(None), PATIENCE)
    finally:
        client.exit(None)
        server = client._server
        assert server is not None
        try:
            status = await asyncio.wait_for(server.wait(), PATIENCE)
        except TimeoutError:
            server.kill()
            raise
        finally:
            await client.stop()
    assert status == 0
