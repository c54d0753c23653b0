"""Rows read from front to back, shuffled in blocks, resumed at the exact row.

Start at `stream.py`.
"""
