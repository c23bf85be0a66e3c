"""Secrets in addresses."""

from __future__ import annotations

import pytest

from lmprog.boundary.secret_forms import secrets_of_address


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("https://host/v1", set()),
        ("https://me:pa%21@host/v1", {"pa%21", "pa!", "me:pa!"}),
        ("https://openai@host/v1", set()),
        ("https://key%2F1-of-20-letters@host/v1", {"key%2F1-of-20-letters", "key/1-of-20-letters"}),
        ("https://host/v1?key=a%21&n=", {"a!"}),
        ("http://[", set()),
    ],
)
def test_the_secrets_of_an_address(address: str, found: set[str]) -> None:
    assert secrets_of_address(address) == found
