"""What comes from outside, and what goes to a terminal: JSON, headers, bodies, secrets, user code."""
