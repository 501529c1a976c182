"""Benchmarks: datasets, the protocols of the papers, methods side by side, and what others published."""
