"""The error that all readers of replies raise."""

from lmprog.compiler.errors import Handled


class Unreadable(Handled):
    """The error for a reply from which the wanted outputs cannot be read; its message can be shown to the model."""
