"""Data splits, and the readers of their files."""
