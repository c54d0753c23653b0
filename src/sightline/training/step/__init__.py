"""One optimizer step: cut into micro-batches, forward, objective, backward.

Start at `step.py`.
"""
