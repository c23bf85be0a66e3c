"""The messages of a module."""
