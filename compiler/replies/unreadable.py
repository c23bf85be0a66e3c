"""The one failure of all readers of replies."""

from lmprog.compiler.errors import Handled


class Unreadable(Handled):
    """A reply that does not hold the outputs; the message says what is wrong with it, fit to be shown to the model."""
