def lookup(word: str) -> str:
    """Look a word up."""
    return word
