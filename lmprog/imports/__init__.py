"""Import of prompt flow and prompty files: each becomes a first lmprog program."""
