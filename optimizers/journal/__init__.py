"""The append-only record of an optimization, and how a run goes on from it."""
