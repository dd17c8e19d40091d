"""Metrics of fairness, utility, fidelity and privacy: plain functions on arrays."""
