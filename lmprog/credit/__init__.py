"""Credit: how much of a program's score each of its modules accounts for. docs/credit.md has the formulas.

`variance` measures how much of the luck in a score is the luck of each module, by sampling calls anew while the rest of the
trace is replayed; `alone` what the tuning of each module gains by itself.
"""
