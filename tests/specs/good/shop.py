"""A file to be there: a check starts no server."""
