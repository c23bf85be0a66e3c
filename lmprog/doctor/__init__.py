"""Findings about this machine: what is installed, set and reachable, and what a program needs of it."""
