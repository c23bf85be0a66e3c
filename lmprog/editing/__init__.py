"""The analysis behind an editor: names, types, completions, prompts and fixes of a program. It speaks no protocol."""
