"""Metrics of the specs under test."""


def exact(got: str, want: str) -> bool:
    return got == want


def describe(got: str) -> str:
    return f"it said {got}"


def title_recall(found: list[str], wanted: list[str]) -> float:
    return len(set(found) & set(wanted)) / max(1, len(wanted))


def leaked_share(request: str, pii_units: list[str]) -> float:
    return sum(unit in request for unit in pii_units) / max(1, len(pii_units))
