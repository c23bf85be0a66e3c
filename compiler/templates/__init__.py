"""Jinja templates: what may stand in one, its types, and rendering."""
