"""Experiment trackers that follow an optimization (`optimize.report_to`): MLflow and Weights & Biases."""
