"""`lmprog export`: the prompts of a program as text that other tools read."""
