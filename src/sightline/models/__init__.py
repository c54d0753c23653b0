"""Models: loading, processors, families, adapters (LoRA), quantisation.

Start at `load.py` (a recipe's `model` group → model and processor), then `families/` (what differs between types).
"""

# before anything here imports transformers
from sightline import torchvision_ops as torchvision_ops
