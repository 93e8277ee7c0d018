"""Offline datasets: the file format, and what builds, collects, converts and checks them."""
