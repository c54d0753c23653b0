"""Completions from a cache: one a prompt, K that share it, questions on one image, or a stream of tokens.

Start at `decoder.py`; its callers are `generate.py` here, samplers in `rollouts` and `evaluation.one_image`.
"""

# before anything here imports transformers
from sightline import torchvision_ops as torchvision_ops
