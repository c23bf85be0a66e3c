"""Tools as a spec declares them, and calls of tools written in words."""
