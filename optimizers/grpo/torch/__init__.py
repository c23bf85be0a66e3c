"""The trainer: log-probabilities, losses and adapters. Imports torch."""
