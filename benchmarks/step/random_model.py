"""What all random models here share: tokenizer, chat template, and weights of seed 0. Nothing is downloaded.

The chat template puts the line break in front of a turn and not after it, so that a response ends with the
end-of-turn token in every program: TRL would otherwise train on the line break after it and Sightline would not.
"""

from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = [
    "the quick brown fox jumps over the lazy dog. What is shown in this image? A red square and a blue circle.",
    "Describe the image in detail. user assistant yes no left right green yellow number one two three 0 1 2 3 4 5",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Built:
    """A model and its processor."""

    model: hf.PreTrainedModel
    processor: hf.ProcessorMixin


def random_model(kind: type[hf.PreTrainedModel], config: hf.PretrainedConfig, device: str) -> hf.PreTrainedModel:
    """A model of seed 0, made where it will run."""
    torch.manual_seed(0)
    config._attn_implementation = "sdpa"
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = kind(config)
    finally:
        torch.set_default_dtype(torch.float32)
    return model.eval()


def token_ids(tokenizer: hf.PreTrainedTokenizerFast) -> dict[str, Any]:
    """What a language model's config says of its tokenizer."""
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": False,
    }


def make_tokenizer(*special: str) -> hf.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 512 tokens and these special ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    always = ["<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=always,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        padding_side="right",
    )
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    return fast
