"""Benchmarks, their scores, and results with intervals."""
