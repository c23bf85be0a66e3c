"""Rollouts: sampled, scored, and joined by those of teachers. Imports no torch."""
