"""YAML text to nodes with positions, and files laid over each other."""
