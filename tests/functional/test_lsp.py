"""`lmprog lsp`: an editor's session over the real protocol."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lsprotocol import types

from benchmarks.lsp import waits
from tests.functional.editor import editor

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """A copy of the programs of this repository."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    return (tmp_path / "specs").resolve()


READ = "      answer: ${{ steps.ask.answer }}"
"""The line of specs/papillon.yaml in which somebody types."""


def place(text: str, words: str) -> types.Position:
    """Return the position of the mark in some words of a text; the words are in it once."""
    plain = words.replace("¦", "")
    assert text.count(plain) == 1, words
    before = text[: text.index(plain) + words.index("¦")]
    line = before.rpartition("\n")[2]
    return types.Position(before.count("\n"), len(line.encode("utf-16-le")) // 2)


def applied(text: str, edits: list[types.TextEdit]) -> str:
    """Return a text of ASCII with the edits of an editor."""
    lines = text.split("\n")
    for edit in sorted(edits, key=lambda one: (one.range.start.line, one.range.start.character), reverse=True):
        start, end = edit.range.start, edit.range.end
        assert start.line == end.line
        line = lines[start.line]
        lines[start.line] = line[: start.character] + edit.new_text + line[end.character :]
    return "\n".join(lines)


def test_a_session_goes_through_every_feature(specs: Path) -> None:
    path = specs / "papillon.yaml"
    text = path.read_text()
    document = types.TextDocumentIdentifier(path.as_uri())
    whole = types.Range(types.Position(0, 0), types.Position(1000, 0))

    async def session() -> None:
        async with editor(specs) as own:
            client = own.client
            own.open(path)
            assert await own.until(path) == []
            assert own.registered == ["workspace/didChangeWatchedFiles"]

            # diagnostics and fixes of what is typed
            wrong = text.replace(READ, READ.replace("ask.answer", "ask.anwser"))
            own.change(path, wrong)
            (finding,) = await own.until(path, "LMP203")
            assert finding.severity == types.DiagnosticSeverity.Error and "did you mean `answer`?" in finding.message
            assert finding.range.start == place(wrong, READ.replace("steps.ask.answer", "¦steps.ask.anwser"))
            found = await client.text_document_code_action_async(
                types.CodeActionParams(document, finding.range, types.CodeActionContext([finding]))
            )
            (fix, every) = found or ()
            assert isinstance(fix, types.CodeAction) and fix.title == "write `answer`" and fix.edit is not None
            assert isinstance(every, types.CodeAction) and every.kind == types.CodeActionKind.SourceFixAll
            assert fix.edit.changes is not None
            assert applied(wrong, list(fix.edit.changes[path.as_uri()])) == text
            only = await client.text_document_code_action_async(
                types.CodeActionParams(
                    document, whole, types.CodeActionContext([], [types.CodeActionKind.SourceFixAll])
                )
            )
            assert [one.title for one in only or ()] == [every.title]
            own.change(path, text)
            await own.until(path)

            # hover: types, meaning, the prompt of a row
            hover = await client.text_document_hover_async(
                types.HoverParams(document, place(text, READ.replace("ask.", "ask.¦")))
            )
            assert hover is not None and isinstance(hover.contents, types.MarkupContent)
            assert "ask_remote.answer: str" in hover.contents.value
            hover = await client.text_document_hover_async(types.HoverParams(document, place(text, "  ¦ask_remote:")))
            assert hover is not None and isinstance(hover.contents, types.MarkupContent)
            assert "**Prompt** of `ask`" in hover.contents.value
            hover = await client.text_document_hover_async(types.HoverParams(document, place(text, "    ¦retry: 2")))
            assert hover is not None and isinstance(hover.contents, types.MarkupContent)
            assert "Further tries after a failure" in hover.contents.value

            # definition and references
            here = place(text, READ.replace("steps.", "steps.¦"))
            found_at = await client.text_document_definition_async(types.DefinitionParams(document, here))
            (definition,) = found_at if isinstance(found_at, list | tuple) else [found_at]
            assert isinstance(definition, types.Location) and definition.range.start == place(text, "  ¦ask:\n")
            context = types.ReferenceContext(include_declaration=True)
            places = await client.text_document_references_async(types.ReferenceParams(context, document, here))
            starts = [one.range.start for one in places or ()]
            assert here in starts and place(text, "  ¦ask:\n") in starts
            assert len(starts) == 1 + text.count("steps.ask.")

            # renaming, with what cannot be renamed
            prepared = await client.text_document_prepare_rename_async(types.PrepareRenameParams(document, here))
            assert isinstance(prepared, types.PrepareRenamePlaceholder) and prepared.placeholder == "ask"
            edit = await client.text_document_rename_async(types.RenameParams(document, here, "question"))
            assert edit is not None and edit.changes is not None
            renamed = applied(text, list(edit.changes[path.as_uri()]))
            assert renamed == text.replace("  ask:\n", "  question:\n").replace("steps.ask.", "steps.question.")
            module = await client.text_document_rename_async(
                types.RenameParams(document, place(text, "  ¦craft_request:\n    lm"), "craft_it")
            )
            assert module is not None and module.changes is not None
            # full/papillon.yaml extends this file, and its modules are named there too.
            assert {Path(uri).relative_to(specs.as_uri()) for uri in module.changes} == {
                Path("papillon.yaml"),
                Path("full/papillon.yaml"),
            }
            assert "craft_request" not in applied(text, list(module.changes[path.as_uri()]))
            with pytest.raises(Exception, match="is defined already"):
                await client.text_document_rename_async(types.RenameParams(document, here, "respond"))

            # completion of half-typed text, which is no YAML
            for typed, offered in (
                ("      answer: ${{ st¦", "steps"),
                ("      answer: ${{ steps.¦", "ask"),
                ("      answer: ${{ steps.ask.¦", "answer"),
                ("      ¦", "answer"),
            ):
                half = text.replace(READ, typed.replace("¦", ""))
                own.change(path, half)
                at = types.Position(text[: text.index(READ)].count("\n"), typed.index("¦"))
                completions = await client.text_document_completion_async(types.CompletionParams(document, at))
                assert isinstance(completions, types.CompletionList)
                assert offered in [item.label for item in completions.items]
            own.change(path, text.replace("model: embedded/smollm2-135m", "model: openai/gpt-4.1", 1))
            at = types.Position(text[: text.index("model: embedded")].count("\n"), 4 + len("model: openai/gpt-4.1"))
            completions = await client.text_document_completion_async(types.CompletionParams(document, at))
            assert isinstance(completions, types.CompletionList)
            (mini,) = (item for item in completions.items if item.label == "openai/gpt-4.1-mini")
            assert isinstance(mini.text_edit, types.TextEdit) and mini.text_edit.range.start.character == 4 + len(
                "model: "
            )

            # inlay hints
            own.change(path, text)
            hints = await client.text_document_inlay_hint_async(types.InlayHintParams(document, whole))
            labels = [hint.label for hint in hints or ()]
            assert {"-> answer: str", "<= 3 LM calls", "<= 5 LM calls a run"} <= set(labels)

            own.close(path)
            await own.until(path)

    asyncio.run(session())


def test_every_program_of_specs_is_opened_without_findings(specs: Path) -> None:
    async def session() -> None:
        async with editor(specs) as own:
            programs = [path for path in sorted(specs.rglob("*.yaml")) if "\nlmprog: 1\n" in "\n" + path.read_text()]
            for path in programs:
                own.open(path)
            for path in programs:
                await own.until(path)

    asyncio.run(session())


BASE = 'lmprog: 1\ninputs: {text: str}\noutputs: {said: "${{ inputs.text }}"}\nsteps: {}\n'
CALLER = """\
lmprog: 1
inputs: {text: str}
outputs: {said: "${{ steps.run.said }}"}
steps:
  run: {program: ./base.yaml, with: {text: "${{ inputs.text }}"}}
data: {dev: rows.jsonl}
metrics: {right: {value: "1.0 if outputs.said == row.wanted else 0.0"}}
tests: [{data: dev, metric: right, at_least: 0.5}]
"""


def test_files_that_a_program_names_count_as_they_are_typed(write: Callable[..., Path], tmp_path: Path) -> None:
    base, caller = write(BASE, "base.yaml").resolve(), write(CALLER, "caller.yaml").resolve()
    rows = write('{"text": "a", "wanted": "a"}\n', "rows.jsonl").resolve()

    async def session() -> None:
        async with editor(tmp_path.resolve()) as own:
            own.open(caller)
            await own.until(caller)
            own.open(base)
            await own.until(base)
            # A finding of another file goes to that file; one of this file that follows from it, to this.
            own.change(base, BASE.replace("said:", "spoken:"))
            await own.until(caller, "LMP203")
            own.change(base, BASE.replace("inputs.text", "inputs.tex"))
            await own.until(base, "LMP201")
            own.change(base, BASE)
            await own.until(base)
            await own.until(caller)
            own.open(rows, '{"text": "a", "other": "a"}\n')
            await own.until(caller, "LMP601")
            own.close(rows)
            await own.until(caller)
            # What is on the disk counts again when the editor has closed the file.
            own.change(base, BASE.replace("said:", "spoken:"))
            await own.until(caller, "LMP203")
            own.close(base)
            await own.until(caller)

    asyncio.run(session())


def test_a_python_file_that_is_saved_is_imported_again(write: Callable[..., Path], tmp_path: Path) -> None:
    tool = write("from part import N\ndef size(text: str) -> int:\n    return N\n", "tools.py").resolve()
    part = write("N = 1\nKIND = str\n", "part.py").resolve()
    path = write(
        'lmprog: 1\ninputs: {text: str}\noutputs: {size: "${{ steps.go.result }}"}\n'
        'tools: {size: {python: "./tools.py:size"}}\nsteps: {go: {tool: size, with: {text: "${{ inputs.text }}"}}}\n'
    ).resolve()

    async def session() -> None:
        async with editor(tmp_path.resolve()) as own:
            own.open(path)
            await own.until(path)
            tool.write_text("from part import N\ndef size(words: str) -> int:\n    return N\n")
            own.saved(tool)
            await own.until(path, "LMP604", "LMP604")
            tool.write_text("from part import MORE\ndef size(text: str) -> int:\n    return MORE\n")
            own.saved(tool)
            await own.until(path, "LMP103")
            part.write_text("MORE = 2\n")  # which the program does not name: its tool imports it
            own.saved(part)
            await own.until(path)

    asyncio.run(session())


@pytest.mark.parametrize(("encoding", "unit"), [("utf-16", 2), ("utf-32", 4), ("utf-8", 1)])
def test_positions_are_counted_as_the_editor_counts(
    write: Callable[..., Path], tmp_path: Path, encoding: str, unit: int
) -> None:
    path = write("lmprog: 1\n").resolve()
    text = (
        "lmprog: 1\r\ninputs: {text: str}\r\nvars: {mood: 😀é}\r\n"
        'outputs: {said: "${{ join([\\"😀😀é\\", vars.mod, inputs.text], \\"\\") }}"}\r\nsteps: {}\r\n'
    )

    def character(before: str) -> int:
        return len(before.encode("utf-8" if unit == 1 else f"{encoding}-le")) // unit

    async def session() -> None:
        async with editor(tmp_path.resolve(), encodings=[encoding]) as own:
            own.open(path, text)
            (finding,) = await own.until(path, "LMP201")
            line = text.split("\r\n")[3]
            start = character(line[: line.index("vars.mod")])
            assert (finding.range.start.line, finding.range.start.character) == (3, start)
            document = types.TextDocumentIdentifier(path.as_uri())
            at = types.Position(3, character(line[: line.index("inputs.text") + len("inputs.")]))
            definition = await own.client.text_document_definition_async(types.DefinitionParams(document, at))
            (found,) = definition if isinstance(definition, list | tuple) else [definition]
            assert isinstance(found, types.Location) and (found.range.start.line, found.range.start.character) == (1, 9)

    asyncio.run(session())


def test_an_overlays_findings_go_to_the_file_they_are_in(write: Callable[..., Path], tmp_path: Path) -> None:
    base = write(BASE.replace("inputs.text", "inputs.texts"), "base.yaml").resolve()
    overlay = write("extends: ./base.yaml\nlmprog: 1\nname: other\n", "over.yaml").resolve()

    async def session() -> None:
        async with editor(tmp_path.resolve()) as own:
            own.open(overlay)
            await own.until(base, "LMP201")
            assert await own.until(overlay) == []
            own.close(overlay)
            await own.until(base)

    asyncio.run(session())


def test_files_that_are_no_programs_are_left_alone(write: Callable[..., Path], tmp_path: Path) -> None:
    other, path = write("a: [\n", "compose.yaml").resolve(), write(BASE).resolve()

    async def session() -> None:
        async with editor(tmp_path.resolve(), "--no-import") as own:
            own.open(other)
            own.open(path)
            await own.until(path)
            document = types.TextDocumentIdentifier(other.as_uri())
            assert await own.client.text_document_hover_async(types.HoverParams(document, types.Position(0, 0))) is None
            assert other.as_uri() not in own.diagnostics
            # One that becomes a program is checked, and one that is none any more has no findings.
            own.change(other, "lmprog: 1\na: b\n")
            await own.until(other, "LMP101", "LMP101")
            own.change(other, "a: b\n")
            await own.until(other)

    asyncio.run(session())


def test_nothing_is_imported_with_no_import(write: Callable[..., Path], tmp_path: Path) -> None:
    write(
        "import pathlib\npathlib.Path('imported').write_text('')\ndef size(text: str) -> int:\n    return 1\n", "t.py"
    )
    path = write(
        'lmprog: 1\ninputs: {text: str}\noutputs: {size: "${{ steps.go.result }}"}\n'
        'tools: {size: {python: "./t.py:size"}}\nsteps: {go: {tool: size, with: {text: "${{ inputs.text }}"}}}\n'
    ).resolve()

    async def session(*options: str) -> None:
        async with editor(tmp_path.resolve(), *options) as own:
            own.open(path)
            await own.until(path)
            document = types.TextDocumentIdentifier(path.as_uri())
            await own.client.text_document_hover_async(types.HoverParams(document, types.Position(4, 9)))

    asyncio.run(session("--no-import"))
    assert not (tmp_path / "imported").exists()
    asyncio.run(session())
    assert (tmp_path / "imported").exists()


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="the processor time of another process is read from /proc"
)
def test_a_change_in_1000_steps_takes_less_than_a_second_of_the_processor(tmp_path: Path) -> None:
    """`python -m benchmarks.lsp` measures the time on the clock."""
    found = asyncio.run(waits(tmp_path.resolve(), 1000))
    assert min(processor for _, processor in found) < 1.0
