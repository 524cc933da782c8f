"""Compares many runs: rows, intervals, speedups, and the claims that they support."""
