"""The types of the language, how they are written, and values against them."""
