"""Self-contained HTML documents: template, style and script in one text, which loads nothing from the network.

What a page shows was written by models, and by whoever made the data. The templates escape all of it, and the policy of a page
lets no script run but its own, named by a digest.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmprog.boundary.terminal import printable
from lmprog.reports.candidates import NAMED, between, changes, what
from lmprog.reports.page.stages import charts

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
"""The folder of the templates, scripts and the style of all pages."""
LISTED = 1000
"""The most rows that a page lists."""


def document(template: str, script: str, **values: Any) -> str:
    """Return a whole HTML page: the Jinja template in the file `template` of lmprog/reports/page, filled with `values`
    (whose texts are escaped), with the style, and the script of the file `script`, inside. A name that the template
    uses and `values` lack is an error of Jinja."""
    code = (FOLDER / script).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    return environment().get_template(template).render(**values, script=code, digest=digest, style=style)


def fragment(template: str, **values: Any) -> str:
    """Return a part of an HTML page: the Jinja template in the file `template` of lmprog/reports/page, filled with
    `values` (whose texts are escaped). A name that it uses and `values` lack is an error of Jinja."""
    return environment().get_template(template).render(**values)


@cache
def environment() -> Environment:
    """Return the Jinja environment of all pages, made once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # What would steer a reader's screen, or stand in no document, is shown as its number.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    made.filters |= {"percent": percent, "points": points, "amount": amount, "kind": kind}
    made.globals |= {
        "between": between,
        "changes": changes,
        "charts": charts,
        "listed": LISTED,
        "named": NAMED,
        "what": what,
    }
    return made


def percent(share: float) -> str:
    """Return a fraction as a percentage, like `62.5%`."""
    return f"{100 * share:.1f}%"


def points(difference: float) -> str:
    """Return a difference of fractions in percentage points, like `+12.5`."""
    return f"{100 * difference:+.1f}"


def amount(value: float, digits: int = 0) -> str:
    """Return a number with separators of thousands and `digits` decimals, like `12,345`."""
    return f"{value:,.{digits}f}"


def kind(line: str) -> str:
    """Return the kind of a line of a unified diff by its beginning: `heading` (`@@`, and the names of files after
    `--- a/` and `+++ b/`), `added`, `removed` or `same`."""
    if line.startswith(("--- a/", "+++ b/", "@@")):
        return "heading"
    return {"+": "added", "-": "removed"}.get(line[:1], "same")
