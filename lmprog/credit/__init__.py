"""Credit: what of a program's score is due to which of its modules. docs/credit.md has the formulas and why these.

`variance` says how much of the luck in a score is the luck of each module, by sampling calls anew while the rest of the trace
is replayed; `alone` what the tuning of each module gains by itself.
"""
