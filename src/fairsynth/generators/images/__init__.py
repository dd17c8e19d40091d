"""Generators of images: the same systems as of tables, behind the same calls."""
