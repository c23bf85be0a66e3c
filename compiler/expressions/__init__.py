"""`${{ }}`: parsed, typed, tried with samples and compiled."""
