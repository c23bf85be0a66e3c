"""Budgets, worst cases and estimates."""
