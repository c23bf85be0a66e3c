"""Findings, their fixes and their pages."""
