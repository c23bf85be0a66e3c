"""Optimizers change the words or the weights of a program, and nothing else."""

from lmprog.optimizers.budget import Budget, Spent
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.journal import Journal
from lmprog.optimizers.optimizer import Optimizer, Task

__all__ = ["Budget", "Candidate", "Journal", "Optimizer", "Spent", "Task"]
