"""Programs to begin with: what `lmprog init` writes for a kind of program, a model, a CI and hooks."""
