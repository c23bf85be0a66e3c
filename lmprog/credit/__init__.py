"""Credit: how much of a program's score each of its modules accounts for. docs/credit.md has the formulas.

The file `variance.py` measures how much of the variance of a score is due to each module, by sampling some calls of a run anew
while its other calls are replayed; `alone.py` measures the gain of each module's tuning by itself.
"""
