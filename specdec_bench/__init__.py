"""Exact, comparable measurements of speculative decoding: a YAML experiment in, a run directory out."""

__version__ = "0.1.0"
