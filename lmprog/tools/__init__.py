"""Tools that a program may call beside LMs."""
