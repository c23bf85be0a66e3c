"""Experiment trackers (`report_to`), which get the metrics of a training by transformers' own callbacks."""

from __future__ import annotations

from collections.abc import Sequence

from lmprog.errors import LmprogError


def check(report_to: Sequence[str], stage: str) -> None:
    """Raise LmprogError for a tracker in `report_to` that transformers does not have, or that is not installed; `stage` is
    the name of the stage for the message."""
    from transformers.integrations.integration_utils import (
        INTEGRATION_TO_CALLBACK,
        get_available_reporting_integrations,
    )

    for name in report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise LmprogError(
                f"{stage} cannot report to {name!r}; `report_to` takes {', '.join(sorted(INTEGRATION_TO_CALLBACK))}"
            )
        if name not in get_available_reporting_integrations():
            raise LmprogError(f"{stage} is to report to {name!r}, which is not installed: pip install {name}")
