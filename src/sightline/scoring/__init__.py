"""Answers → scores: pure functions that rewards and evaluation both stand on.

Start at `ratio.py` (a score is a numerator and a denominator), then the benchmark's own file.
"""
