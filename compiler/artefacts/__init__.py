"""`lmprog compile`, `graph` and `diff`, and the digest of a program."""
