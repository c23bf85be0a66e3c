"""Input from outside and text for a terminal: JSON, headers, bodies, secrets, user code."""
