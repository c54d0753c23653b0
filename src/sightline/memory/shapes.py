"""The shapes of models: config.json of a folder, of the hub, or of common models, which come with the package.

So a plan for an 8 or a 72 billion parameter model needs neither weights nor network.
"""

import json
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from sightline.config import ModelConfig
from sightline.errors import ModelError
from sightline.models.load import read_config

CONFIGS = Path(__file__).parent / "configs"

SHAPES = {
    "HuggingFaceM4/idefics2-8b": "idefics2-8b",
    "HuggingFaceM4/idefics2-8b-base": "idefics2-8b",
    "HuggingFaceM4/idefics2-8b-chatty": "idefics2-8b",
    "HuggingFaceM4/Idefics3-8B-Llama3": "idefics3-8b-llama3",
    "HuggingFaceTB/SmolVLM-256M-Instruct": "smolvlm-256m-instruct",
    "HuggingFaceTB/SmolVLM-500M-Instruct": "smolvlm-500m-instruct",
    "HuggingFaceTB/SmolVLM-Instruct": "smolvlm-instruct",
    "HuggingFaceTB/SmolVLM-Base": "smolvlm-instruct",
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": "smolvlm2-2.2b-instruct",
    "llava-hf/llava-1.5-7b-hf": "llava-1.5-7b",
    "llava-hf/llava-1.5-13b-hf": "llava-1.5-13b",
    "llava-hf/llava-v1.6-mistral-7b-hf": "llava-v1.6-mistral-7b",
    "google/paligemma-3b-pt-224": "paligemma-3b-224",
    "google/paligemma-3b-mix-224": "paligemma-3b-224",
    "google/paligemma-3b-pt-448": "paligemma-3b-448",
    "google/paligemma-3b-mix-448": "paligemma-3b-448",
    "google/paligemma2-3b-pt-224": "paligemma2-3b-224",
    "google/gemma-3-4b-it": "gemma-3-4b-it",
    "google/gemma-3-12b-it": "gemma-3-12b-it",
    "google/gemma-3-27b-it": "gemma-3-27b-it",
    "google/gemma-4-E4B": "gemma-4-e4b-it",
    "google/gemma-4-E4B-it": "gemma-4-e4b-it",
    "meta-llama/Llama-3.2-11B-Vision-Instruct": "llama-3.2-11b-vision-instruct",
    "OpenGVLab/InternVL3-1B-hf": "internvl3-1b",
    "OpenGVLab/InternVL3-2B-hf": "internvl3-2b",
    "OpenGVLab/InternVL3-8B-hf": "internvl3-8b",
    "OpenGVLab/InternVL3_5-1B-HF": "internvl3.5-1b",
    "OpenGVLab/InternVL3_5-2B-HF": "internvl3.5-2b",
    "OpenGVLab/InternVL3_5-4B-HF": "internvl3.5-4b",
    "OpenGVLab/InternVL3_5-8B-HF": "internvl3.5-8b",
    "Qwen/Qwen2-VL-2B-Instruct": "qwen2-vl-2b-instruct",
    "Qwen/Qwen2-VL-7B-Instruct": "qwen2-vl-7b-instruct",
    "Qwen/Qwen2-VL-72B-Instruct": "qwen2-vl-72b-instruct",
    "Qwen/Qwen2.5-VL-3B-Instruct": "qwen2.5-vl-3b-instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2.5-vl-7b-instruct",
    "Qwen/Qwen2.5-VL-32B-Instruct": "qwen2.5-vl-32b-instruct",
    "Qwen/Qwen2.5-VL-72B-Instruct": "qwen2.5-vl-72b-instruct",
    "Qwen/Qwen3-VL-2B-Instruct": "qwen3-vl-2b-instruct",
    "Qwen/Qwen3-VL-4B-Instruct": "qwen3-vl-4b-instruct",
    "Qwen/Qwen3-VL-8B-Instruct": "qwen3-vl-8b-instruct",
    "Qwen/Qwen3-VL-30B-A3B-Instruct": "qwen3-vl-30b-a3b-instruct",
    "Qwen/Qwen3-VL-32B-Instruct": "qwen3-vl-32b-instruct",
    "Qwen/Qwen3.5-4B": "qwen3.5-4b",
    "Qwen/Qwen3.5-9B": "qwen3.5-9b",
}
"""Hub id → config file in `configs`: the sizes that decide how many parameters there are, and nothing else."""


def find_config(model: ModelConfig) -> PretrainedConfig:
    """The config of the model that a recipe names: a folder's own, one that comes with the package, or the hub's.

    Raises ModelError where the model cannot be found; the message names the shapes that need no network.
    """
    if model.name in SHAPES:
        return read_shape(SHAPES[model.name])
    try:
        return read_config(model)
    except ModelError as error:
        raise ModelError(
            f"{error} Without network a plan needs a folder that holds the model's config.json, or one of: "
            f"{', '.join(SHAPES)}."
        ) from None


def read_shape(name: str) -> PretrainedConfig:
    """A config that comes with the package."""
    values = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    return AutoConfig.for_model(values.pop("model_type"), **values)
