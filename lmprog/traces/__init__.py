"""Records of calls: files, summaries, exports and replay."""
