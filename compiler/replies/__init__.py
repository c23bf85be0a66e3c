"""The readers of replies, one file for each form: thinking marks, JSON, sections, and single values among words."""
