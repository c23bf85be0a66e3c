"""Addresses to which a provider's key goes although they are none of the provider's."""

import pytest

from lmprog.compiler.provider_keys import key_sent_elsewhere


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://models.host.org/v1", "models.host.org"),
        ("http://[2001:db8::1]:80/v1", "[2001:db8::1]"),
        ("https://eu.api.openai.com/v1", None),
        ("http://vllm.models.svc:8000/v1", None),
        ("http://[::1]:8000/v1", None),
        ("http://100.64.0.3/v1", None),
        ("http://box:8000", None),
    ],
)
def test_a_key_that_leaves_the_provider_and_the_own_network(address: str, host: str | None) -> None:
    assert key_sent_elsewhere("openai/m", address) == (("OPENAI_API_KEY", host) if host else None)
