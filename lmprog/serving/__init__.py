"""A program over HTTP: `POST /run`, with the schema of its inputs and outputs, limits, and an orderly end."""
