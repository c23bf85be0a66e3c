"""The version of lmprog."""

__version__ = "0.1.0"
