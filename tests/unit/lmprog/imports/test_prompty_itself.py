"""Prompty's own package renders the files that the tests of imports have: the same roles and texts as here."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lmprog.imports.original import Original
from tests.unit.lmprog.imports.test_import_prompts import SAME, head

REFUSED = {"a declared number as text", "a text taken apart", "no sample"}
"""Files of earlier versions of Prompty with `inputs`, which version 2 reads otherwise."""


@pytest.mark.slow
def test_prompty_sends_the_messages_that_are_compared_with(tmp_path: Path) -> None:
    """Blanks are compared as one: Prompty 2 keeps those at the ends of a message, earlier versions stripped them."""
    prompty = pytest.importorskip("prompty", reason="needs Prompty's package, of the extra `peers`")
    for name in sorted(SAME.keys() - REFUSED):
        front, text = SAME[name]
        path = tmp_path / "card.prompty"
        path.write_text(head(front) + text, encoding="utf-8", newline="")
        sample = yaml.safe_load(head(front).strip("-\n"))["sample"]
        sent = [(message.role, message.text.split()) for message in prompty.prepare(prompty.load(str(path)), sample)]
        assert sent == [(role, said.split()) for role, said in Original(text).messages(sample)], name
