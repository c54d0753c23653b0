"""Which of transformers' image-text types become a tiny model, from the defaults of their own config class.

    python -m benchmarks.tiny_types          # no GPU, no network; 9 s on a core
    python -m benchmarks.tiny_types glm4v    # one type

With torch 2.13 and transformers 5.23: 74 of 97. A type that fails needs a few values in `tiny_models.FAMILIES`.
"""

import sys

import torch
import transformers as hf
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from sightline.rehearsal.tiny_config import shrink_config
from sightline.rehearsal.tiny_models import FAMILIES, VOCABULARY

MOST = 2_000_000
"""Weights of a model that is still tiny."""


def number_of_weights(model_type: str) -> int:
    """Of the tiny model; nothing is allocated."""
    values = FAMILIES[model_type].config if model_type in FAMILIES else {}
    config = shrink_config(hf.AutoConfig.for_model(model_type), VOCABULARY, values)
    with torch.device("meta"):
        model = hf.AutoModelForImageTextToText.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


def main(types: list[str]) -> None:
    hf.logging.set_verbosity_error()
    num_tiny = 0
    for model_type in types:
        try:
            number = number_of_weights(model_type)
        except Exception as error:  # whatever a type's own code raises is what is asked for here
            print(f"{model_type}: {type(error).__name__}: {str(error).strip().splitlines()[0][:160]}", flush=True)
            continue
        num_tiny += number <= MOST
        print(f"{model_type}: {number:,} weights{'' if number <= MOST else ', too many'}", flush=True)
    print(f"{num_tiny} of {len(types)}")


if __name__ == "__main__":
    main(sys.argv[1:] or list(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES))
