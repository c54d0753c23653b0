"""From an example to a group of token ids: chat template, processor, token cache.

Start at `render.py`.
"""
