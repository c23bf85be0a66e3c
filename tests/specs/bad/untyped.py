def look(query, most):
    """Looks a text up."""
    return query * most
