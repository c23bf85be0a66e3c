"""The words for failures of the Hugging Face Hub."""

from __future__ import annotations

import pytest

hub = pytest.importorskip("huggingface_hub", reason="needs the extra 'local'")
errors = pytest.importorskip("huggingface_hub.errors")

from lmprog.compiler.hub import HubReference  # noqa: E402
from lmprog.errors import InfrastructureError  # noqa: E402
from lmprog.lms.hub import _failures  # noqa: E402


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("GatedRepoError", "cannot be read: it is gated; accept its terms"),
        ("RepositoryNotFoundError", "cannot be read: there is no such repository"),
        ("RevisionNotFoundError", "cannot be read: it has no revision v1"),
        ("LocalTokenNotFoundError", "cannot be read: no token of the Hub was found"),
        ("OfflineModeIsEnabled", "connect to the Hub"),
    ],
)
def test_each_failure_has_its_own_cause_and_fix(kind: str, said: str) -> None:
    error = getattr(errors, kind)
    with (
        pytest.raises(InfrastructureError, match=said),
        _failures(hub, HubReference("a/b", "v1"), "the adapter", "read"),
    ):
        raise error.__new__(error)
