"""Objectives over sampled completions and their rewards: GRPO and its relatives. Pure functions, one idea a file."""
