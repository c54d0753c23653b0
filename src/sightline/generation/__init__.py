"""Answers by transformers: one at a time, streamed, or K samples that share a prompt's cache.

Start at `generate.py`.
"""

# before anything here imports transformers
from sightline import torchvision_ops as torchvision_ops
