"""Files on disk: whole or not there, one writer, and what they are made from."""
