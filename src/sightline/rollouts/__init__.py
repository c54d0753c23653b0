"""Answers sampled while training, and what becomes of them: samplers, prompts, advantages."""
