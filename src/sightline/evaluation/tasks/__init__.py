"""Benchmarks, one file each: its data, its prompt and its scorer.

Start at `registry.py`: from a name on the command line to tasks. A task of your own: docs/extending.md.
"""
