"""A finished run as a model that stands alone: adapter merged, checked, with processor and model card.

Start at `export.py`.
"""
