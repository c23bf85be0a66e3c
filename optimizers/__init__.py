"""Optimizers change the words or the weights of a program, and nothing else."""
