"""The fixtures that several tests of optimizations share."""

from tests.functional.adding import sums

__all__ = ["sums"]
