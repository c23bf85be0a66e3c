"""Checks the links of the built site: every page, file and anchor that a page names is there. Other sites are not asked.

.venv/bin/python docs/check_links.py build/site
"""

from __future__ import annotations

import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

NAMED = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src", "iframe": "src"}


class Page(HTMLParser):
    """The links of a page and the anchors in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Keep the link and the anchor of one tag."""
        given = dict(attributes)
        self.anchors |= {name for name in (given.get("id"), given.get("name")) if name}
        link = given.get(NAMED.get(tag, ""))
        if link and given.get("rel") not in ("canonical", "preconnect"):
            self.links.append(link)


def check(site: Path) -> tuple[list[str], Counter[str]]:
    """Return what is wrong with the links of a site, and the addresses of other sites with the number of links to each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    wrong, others = [], Counter[str]()
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https"):
                others[link] += 1
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            name = path.relative_to(site)
            if not target.is_relative_to(site.resolve()) or not target.exists():
                wrong.append(f"{name}: {link} is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{name}: {link} names an anchor that is not there")
    return wrong, others


if __name__ == "__main__":
    found, elsewhere = check(Path(sys.argv[1]).resolve())
    for address, times in sorted(elsewhere.items()):
        print(f"{times:5}  {address}")
    print("\n".join(found) or "all links within the site lead somewhere")
    sys.exit(bool(found))
