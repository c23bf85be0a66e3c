"""Metrics, evaluation, statistics, and the tests of a program."""
