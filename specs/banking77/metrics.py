def exact_match(label: str, wanted: str) -> bool:
    """Whether the label is the right one."""
    return label == wanted
