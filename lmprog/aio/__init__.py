"""Event loops of synchronous callers, threads, and what belongs to one event loop."""
