"""SPEED-Bench: its files, and the rules that fill in their placeholders."""

from specdec_bench.datasets.speed_bench.source import load

__all__ = ["load"]
