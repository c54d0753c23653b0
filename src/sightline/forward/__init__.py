"""One call from a batch to log-probs: image features, the model's forward, the head in chunks, the reference.

Start at `forward.py`: `log_probs(model, batch, …)`.
"""

# before anything here imports transformers
from sightline import torchvision_ops as torchvision_ops
