"""The error that all readers of replies raise."""

from lmprog.compiler.errors import Handled


class Unreadable(Handled):
    """The error of a reply that does not hold the wanted outputs; its message can be shown to the model."""
