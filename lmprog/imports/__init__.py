"""Import of prompt flow, prompty and DSPy programs: each becomes a first lmprog program."""
