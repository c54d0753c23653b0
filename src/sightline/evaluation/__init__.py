"""Evaluation: tasks (data, prompt, scorer), a model's answers to them, figures with intervals.

Start at `task.py` (what a task is) and `run.py` (ask, keep, score); `tasks/` has the benchmarks, `statistics.py` the
intervals and tests.
"""
