"""Models: loading, families, adapters, picture features, and one call from batch to log-probs."""

# before anything here imports transformers
from sightline import torchvision_ops as torchvision_ops
