"""Private values, and values from outside, on their way through a program."""
