def find(query: str) -> list[str]:
    return [query]


def find_order(number: int) -> str:
    """Finds an order by its number."""
    return str(number)


def refund(number: int) -> str:
    return str(number)
