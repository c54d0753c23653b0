"""Objectives: pure functions from token log-probabilities to losses. One paper a file; no model, trainer or I/O."""
