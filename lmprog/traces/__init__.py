"""Records of LM and tool calls: trace files, summaries, exports to collectors, and replay."""
