from typing import Any
from unicodedata import normalize


def title_recall(found: list[str], wanted: Any) -> float:
    """The share of the wanted pages among those that were found, 0 to 1.

    `wanted` is a list of titles, or supporting facts as the hub has them: {"title": [...]} in HotpotQA, a list of
    {"key": title} in HoVer. Letters with accents are compared as one letter, however a data set has written them.
    """
    facts = wanted["title"] if isinstance(wanted, dict) else wanted
    titles = {normalize("NFC", fact["key"] if isinstance(fact, dict) else fact) for fact in facts}
    return len(titles & {normalize("NFC", title) for title in found}) / len(titles)
