"""Writes the keys of the language into docs/reference/, and a page for each finding into docs/checks/.

    .venv/bin/python docs/generate_reference.py

A page of docs/reference/ has text of its own, and regions between `<!-- keys of SECTION -->` and `<!-- end of keys -->`, which
this fills from the grammar that the compiler checks with. `tests/functional/test_reference_pages.py` fails while the pages are
not what this writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from lmprog.compiler.findings.finding import WARNINGS
from lmprog.compiler.schema.keys import STAGES, Key, keys

DOCS = Path(__file__).parent
PAGES = DOCS.parent / "compiler" / "pages"
REGION = re.compile(r"(<!-- (keys|options) of (.*?) -->\n).*?(<!-- end of keys -->\n)", re.DOTALL)
GENERATED = "<!-- Written by docs/generate_reference.py -->"
FAMILIES = {
    "1": "The file",
    "2": "Names and types",
    "3": "Termination",
    "4": "Trust",
    "5": "Cost",
    "6": "Data and metrics",
    "7": "Optimization",
    "8": "Templates",
}


def pages() -> Iterator[tuple[Path, str]]:
    """Yield every page that holds something generated, with its whole text."""
    for path in sorted((DOCS / "reference").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        yield path, REGION.sub(lambda match: f"{match[1]}\n{_region(match[2], match[3])}\n{match[4]}", text)
    for path in sorted(PAGES.glob("LMP*.md")):
        yield DOCS / "checks" / path.name, f"{path.read_text(encoding='utf-8').rstrip()}\n\n{GENERATED}\n"
    yield DOCS / "checks" / "index.md", _index()


def _region(kind: str, section: str) -> str:
    if kind == "options":
        chosen = [key for key in keys() if key.section.startswith(STAGES)]
        return "\n".join(_options(name, part) for name, part in groupby(chosen, lambda key: key.section.split(".")[2]))
    if section == "the top level":
        return "\n".join(_key(key, "") for key in keys() if not key.section)
    inside = [
        key
        for key in keys()
        if (key.section + ".").startswith((f"{section}.", f"{section}[].")) and not key.section.startswith(STAGES)
    ]
    root = section.split(".")[0].split("[")[0]
    parts = []
    for name, part in groupby(sorted(inside, key=lambda key: key.section), lambda key: key.section):
        parts.append(f"## In `{name}`\n")
        parts += [_key(key, root) for key in part]
    return "\n".join(parts)


def _key(key: Key, root: str) -> str:
    """Return what is said of one key, under a heading that is its path."""
    facts = [key.type, key.needed or f"default: {key.default}"]
    if key.needed and key.default:
        facts.append(f"default: {key.default}")
    lines = [f"### `{key.path}`\n"]
    if key.same_as:
        lines.append(f"As [`{key.same_as}`]({_page(key.same_as, root)}#{_anchor(key.same_as)}).\n")
    else:
        lines.append(f"{_capital(key.about)}\n")
        lines.append(f"*{_capital(facts[0])}; {'; '.join(facts[1:])}.*\n")
        lines.append(f"```yaml\n{key.name}: {key.example}\n```\n")
    return "\n".join(lines)


def _page(path: str, root: str) -> str:
    own = path.split(".")[0].split("[")[0]
    return "" if own == root else f"{own}.md"


def _anchor(path: str) -> str:
    return re.sub(r"[^\w-]", "", path.lower())


def _options(stage: str, options: Iterable[Key]) -> str:
    lines = [f"### {stage}\n", "| option | type | default | meaning | example |", "|---|---|---|---|---|"]
    for key in options:
        inside = key.section.split(".")[3:]
        name = ".".join([*inside, key.name])
        cells = [f"`{name}`", key.type, key.needed or key.default, _capital(key.about), f"`{key.name}: {key.example}`"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _capital(text: str) -> str:
    """Return a text as a sentence of Markdown: `<` begins no HTML there."""
    parts = (text[:1].upper() + text[1:]).split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def _index() -> str:
    lines = [
        "# Findings\n",
        "`lmprog check` reports each finding with its code, its place and a fix; `lmprog explain LMP203` prints the page of a",
        "code. Errors are what will fail or leak. Warnings are what likely wastes money or misleads; `--strict` fails on them",
        "too. `# lmprog: ignore LMP203` on a line silences a finding there.\n",
    ]
    for first, name in FAMILIES.items():
        lines += [f"## {name}\n", "| code | finding | |", "|---|---|---|"]
        for path in sorted(PAGES.glob(f"LMP{first}*.md")):
            title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix(f"# {path.stem}: ")
            kind = "warning" if path.stem in WARNINGS else "error"
            lines.append(f"| [{path.stem}]({path.name}) | {title} | {kind} |")
        lines.append("")
    return "\n".join(lines) + f"{GENERATED}\n"


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
