"""Instructions that name a tool, and those that seem to."""

from __future__ import annotations

import pytest

from lmprog.compiler.checks.agents import names

NAMED = [
    ("Find it with find_order.", "find_order"),
    ("First call `refund`, then answer.", "refund"),
    ("Where it never came, call `refund`.", "refund"),
    ("Call refund(number).", "refund"),
    ("Call `shop.refund` last.", "refund"),
    ("Do not guess. Use find_order\nfirst.", "find_order"),
]
NOT_NAMED = [
    ("Say whether a refund is due.", "refund"),
    ("Never call refund_all.", "refund_all"),
    ("Do not call `find`, `refund` or others.", "refund"),
    ("Answer without `refund`.", "refund"),
    ("Look at my_refund_all.", "refund_all"),
    ("See docs/find_order.md", "find_order"),
    ("", "refund"),
]


@pytest.mark.parametrize(("text", "id"), NAMED)
def test_a_tool_that_is_named(text: str, id: str) -> None:
    assert names(text, id)


@pytest.mark.parametrize(("text", "id"), NOT_NAMED)
def test_a_word_that_is_no_tool_to_be_called(text: str, id: str) -> None:
    assert not names(text, id)
