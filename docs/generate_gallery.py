"""Writes docs/gallery/: a page for each program of specs/gallery, from its files, and a table. Run it after changing one.

    .venv/bin/python docs/generate_gallery.py

`tests/functional/test_gallery.py` fails while a page is not what this writes. What `lmprog check` says to the mistakes of a
program is what it says: each is made in a copy of the folder, which is then checked.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lmprog.compiler import compile_file
from lmprog.compiler.artefacts.mermaid import mermaid
from lmprog.compiler.compilation import Compilation
from lmprog.optimizers.optimizer import installed, options_of

DOCS = Path(__file__).parent
GALLERY = DOCS.parent / "specs" / "gallery"
PAGES = DOCS / "gallery"
NAMES = ("rag", "agent", "summary", "critique", "triage", "extract", "sql", "translate")
"""The programs, in the order of the table."""

NOTE = """\
This page is written by `docs/generate_gallery.py` from the files in `specs/gallery/{name}`; a test keeps it up to date."""

INDEX = """\
# Gallery

Eight programs of the kinds that people build, in `specs/gallery/`. Each has rows, a metric, tests and a recording, which CI
replays. To begin with one of them: `lmprog init DIR --kind NAME`
([how](../howto/begin.md)). This page is written by `docs/generate_gallery.py`, and a test
keeps it up to date.

The recordings show how a program works. Most replies in them were written by hand, since no API was asked, and say nothing
about any model; each page says which. The page of the [results](../results.md) has scores.

| program | what it does | models | replies recorded |
|---|---|---|---|
"""


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page, the table first."""
    rows = []
    texts = []
    for name in NAMES:
        found = checked(GALLERY / name, name)
        assert found.plan is not None, f"{name}: {found.findings}"
        models = ", ".join(f"`{lm.model}`" for lm in found.plan.lms.values())
        embedded = any(lm.model.startswith("embedded/") for lm in found.plan.lms.values())
        recorded = "the embedded model's own; the large one's by hand" if embedded else "by hand"
        rows.append(f"| [{name}]({name}.md) | {found.plan.description} | {models} | {recorded} |\n")
        texts.append((f"{name}.md", _page(name, found.plan)))
    yield "index.md", INDEX + "".join(rows)
    yield from texts


def checked(folder: Path, name: str) -> Compilation:
    """Return the program in a folder as `lmprog check` has it, with the places of its findings from the folder."""
    with contextlib.chdir(folder):
        return compile_file(Path(f"{name}.yaml"), stage_configs=options_of, stage_names=installed)


def _page(name: str, plan: Any) -> str:
    folder = GALLERY / name
    title, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition("\n")
    about, _, recording = rest.partition("\n## The recording\n")
    parts = [title, NOTE.format(name=name), about.strip(), f"```mermaid\n{mermaid(plan).strip()}\n```"]
    parts += ["## The program", _block("yaml", folder / f"{name}.yaml")]
    parts += ["## Beside it"]
    for file in sorted(folder.glob("*.py")):
        parts += [f"`{file.name}`:", _block("python", file)]
    rows = (folder / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.dumps(json.loads(rows[0]), indent=2, ensure_ascii=False)
    parts += [f"The first of {len(rows)} rows in `dev.jsonl`:", f"```json\n{first}\n```"]
    parts += ["## Run it", _commands(name, plan, json.loads(rows[0]))]
    parts += ["## What check says", *_mistakes(name, folder)]
    parts += ["## The recording", recording.strip()]
    return "\n\n".join(parts) + "\n"


def _block(language: str, file: Path) -> str:
    return f"```{language}\n{file.read_text(encoding='utf-8').rstrip()}\n```"


def _commands(name: str, plan: Any, row: Mapping[str, Any]) -> str:
    """Return the commands for a program: without a model, from the recording, and with real models."""
    spec = f"specs/gallery/{name}/{name}.yaml"
    texts = [input for input, field in plan.inputs.items() if isinstance(row[input], str) and len(row[input]) < 100]
    whole = len(texts) == len(plan.inputs)
    inputs = " ".join(f'--input {input}="{row[input]}"' for input in texts)
    from_rows = f"--inputs specs/gallery/{name}/dev.jsonl --out answers.jsonl"
    asked = inputs if whole else from_rows
    lines = [
        f"lmprog check {spec}",
        f"lmprog run {spec} --fake {asked}",
        f"lmprog test {spec} --replay specs/gallery/{name}/recording.jsonl    # no model, no key, no network",
    ]
    first = next(lm.id for lm in plan.lms.values() if lm.model.startswith("openai/"))
    real = [
        "export OPENAI_API_KEY=...",
        f"lmprog run {spec} {asked}",
        f"lmprog eval {spec} --split dev",
        f"lmprog eval {spec} --split dev --lm {first}=anthropic/claude-sonnet-4-5      # pip install 'lmprog[providers]'",
    ]
    return (
        "```bash\n" + "\n".join(lines) + "\n```\n\nWith real models:\n\n```bash\n" + "\n".join(real) + "\n```\n\n"
        "A server of your own that speaks the protocol of OpenAI is asked with "
        f"`--set lms.{first}.api_base=http://localhost:8000/v1`."
    )


def _mistakes(name: str, folder: Path) -> Iterator[str]:
    """Yield what a check says to the mistakes of a program, those that were made while it was written first."""
    mistakes = yaml.safe_load((folder / "mistakes.yaml").read_text(encoding="utf-8"))
    if "made" in mistakes:
        yield "Mistakes that were made while this program was written, and what `lmprog check` said:"
        yield from (_mistake(name, folder, mistake) for mistake in mistakes["made"])
    else:
        yield "The program passed `lmprog check --strict` when it was first checked with all its files."
    if "tried" in mistakes:
        yield "Mistakes that were made on purpose:"
        yield from (_mistake(name, folder, mistake) for mistake in mistakes["tried"])


def _mistake(name: str, folder: Path, mistake: Mapping[str, Any]) -> str:
    """Return the findings of a program with one mistake in it; raise AssertionError where there are none."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / name
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__", "recording.*"))
        file = copy / mistake.get("file", f"{name}.yaml")
        text = file.read_text(encoding="utf-8")
        for now, was in {mistake["now"]: mistake["was"], **mistake.get("also", {})}.items():
            assert text.count(now) == 1, f"{name}: {now!r} stands {text.count(now)} times"
            text = text.replace(now, was)
        file.write_text(text, encoding="utf-8")
        findings = checked(copy, name).findings
    assert findings, f"{name}: nothing is said to {mistake['was']!r}"
    said = "\n\n".join(map(str, findings))
    was, now = (mistake[key].strip().splitlines()[:1] for key in ("was", "now"))
    slip = f"`{was[0]}` for `{now[0]}`" if was else f"Without `{now[0]}`"
    where = f" in `{mistake['file']}`" if "file" in mistake else ""
    return f"{slip}{where}:\n\n```text\n{said}\n```"


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in pages():
        (PAGES / name).write_text(text, encoding="utf-8")
