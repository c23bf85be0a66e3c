def same(found: str, wanted: str) -> bool:
    return found == wanted


def recall(found: list[str], wanted: list[str]) -> float:
    return sum(title in found for title in wanted) / len(wanted)


def polite(answer: str) -> bool:
    return "please" in answer
