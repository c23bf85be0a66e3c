"""JSON schemas of the language, of manifests and of the options of stages."""
