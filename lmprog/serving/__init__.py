"""`lmprog serve`: a program over HTTP (`POST /run`), with its OpenAPI document, limits, and a graceful shutdown."""
