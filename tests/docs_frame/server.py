"""An MCP server of its tools; the pages show its code."""
