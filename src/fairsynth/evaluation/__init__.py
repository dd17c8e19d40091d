"""Evaluation: real train rows, real test rows and a synthetic table in, one `Evaluation` out."""
