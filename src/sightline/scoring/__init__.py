"""Answers to scores: pure functions that rewards and evaluation both stand on."""
