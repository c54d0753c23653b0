"""Evaluation: tasks (data + prompt + scorer), runs, statistics."""
