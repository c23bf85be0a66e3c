"""Vertex AI, where no weights are tuned: litellm cannot follow a job there. Where this fails, it can, and may be supported."""

from __future__ import annotations

import pytest

ASKED = {"retrieve_fine_tuning_job": ("job",), "cancel_fine_tuning_job": ("job",), "list_fine_tuning_jobs": ()}


@pytest.mark.slow
def test_a_job_on_vertex_cannot_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without this litellm fetches its price table from the network when it is imported.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm", reason="needs the extra 'providers'")
    for name, arguments in ASKED.items():
        with pytest.raises(litellm.BadRequestError, match="doesn't support vertex_ai"):
            getattr(litellm, name)(*arguments, custom_llm_provider="vertex_ai")
