"""What a program may call beside LMs."""
