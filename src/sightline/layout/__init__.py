"""From groups to a grid of tokens: which token sits where, what it may see, and who predicts it. Pure tensors.

`prefix` computes a prompt once for all its responses; `padded` repeats it for every response and is the oracle.
"""

from sightline.layout import padded, prefix
from sightline.layout.grid import order
from sightline.layout.packing import first_fit_decreasing
from sightline.layout.share import share_prefix
from sightline.layout.visibility import visible

__all__ = ["first_fit_decreasing", "order", "padded", "prefix", "share_prefix", "visible"]
