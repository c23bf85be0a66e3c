"""The one failure of all readers of replies."""


class Unreadable(Exception):
    """A reply that does not hold the outputs; the message says what is wrong with it, fit to be shown to the model."""
