"""A run of a plan: steps, module calls, agents and tool calls."""
