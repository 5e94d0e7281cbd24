"""Benchmarks: what is asked, and how answers become metrics; one file for each kind."""
