"""Measurements behind the numbers in README and docs; see README.md here."""
