"""The sequence of stages of an optimization: the split of dev rows, and the acceptance of the result."""
