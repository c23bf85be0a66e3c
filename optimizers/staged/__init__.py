"""The stages of an optimization in their order, the split of dev, and what is kept in the end."""
