"""`lmprog explain`."""

from __future__ import annotations

import click


@click.command()
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Show the page of a finding, as LMP203: what it means, an example, and how to mend it. Without CODE, list all."""
    from importlib.resources import files

    pages = files("lmprog.compiler") / "pages"
    if code is None:
        for path in sorted(pages.iterdir(), key=lambda path: path.name):
            if path.name.endswith(".md"):
                click.echo(path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# "))
        return
    name = code.upper() if code.upper().startswith("LMP") else f"LMP{code}"
    page = pages / f"{name}.md"
    if not page.is_file():
        known = sorted(path.name.removesuffix(".md") for path in pages.iterdir() if path.name.endswith(".md"))
        raise click.UsageError(f"there is no finding {code!r}; there are {', '.join(known)}")
    click.echo(page.read_text(encoding="utf-8").rstrip())
