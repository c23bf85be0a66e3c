"""Tools as async functions: Python functions, HTTP requests, MCP servers, full-text search, and those of other packages."""
