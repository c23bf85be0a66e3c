"""Tools of the specs under test."""


def send(text: str, to: str = "desk") -> str:
    return f"{to}: {text}"
