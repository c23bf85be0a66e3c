"""The fixtures that several tests of optimizations share."""

from adding import sums

__all__ = ["sums"]
