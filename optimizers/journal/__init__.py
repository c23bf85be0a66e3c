"""The journal: an append-only file of an optimization's events, from which it resumes."""
