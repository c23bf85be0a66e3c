"""Rows, weights and penalties of a training step. Pure; imports no torch."""
