"""Generators of pages. Each is a command without options."""
