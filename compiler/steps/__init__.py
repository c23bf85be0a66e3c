"""The graph of steps."""
