"""Random models by shape, with real processors, made from configs alone: nothing is downloaded.

The chat template puts the line break in front of a turn and not behind it, so that a response ends with the
end-of-turn token in every program: TRL would otherwise train on the line break behind it and Sightline would not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = [
    "the quick brown fox jumps over the lazy dog. What is shown in this picture? A red square and a blue circle.",
    "Describe the picture in detail. user assistant yes no left right green yellow number one two three 0 1 2 3 4 5",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}PICTURE"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Built:
    """A model and its processor."""

    model: hf.PreTrainedModel
    processor: hf.ProcessorMixin


@dataclass(frozen=True, kw_only=True)
class IdeficsSizes:
    """A model of SmolVLM's kind: tiles of `tile` pixels and one of the whole picture."""

    tile: int
    patch: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    intermediate: int
    vocabulary: int


SMOLVLM_36M = IdeficsSizes(
    tile=224, patch=14, vision_hidden=384, vision_layers=6, vision_heads=6,
    hidden=512, layers=8, heads=8, key_heads=4, intermediate=1536, vocabulary=32000,
)  # fmt: skip
SMOLVLM_TOY = IdeficsSizes(
    tile=56, patch=14, vision_hidden=32, vision_layers=2, vision_heads=2,
    hidden=64, layers=2, heads=4, key_heads=2, intermediate=128, vocabulary=640,
)  # fmt: skip


def build(shape: str, grid: tuple[int, int], device: str = "cpu") -> Built:
    """The model and the processor, set so that a picture of the data becomes `grid` tiles (rows, columns).

    float32 on a CPU, bfloat16 on a GPU; the same weights every time.
    """
    return SHAPES[shape](grid, device)


def smolvlm(sizes: IdeficsSizes, grid: tuple[int, int], device: str) -> Built:
    """SmolVLM's language model and tower with Idefics3's processor, which is SmolVLM's without videos."""
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = make_tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *places)
    images = hf.Idefics3ImageProcessorPil(
        size={"longest_edge": max(grid) * sizes.tile},
        max_image_size={"longest_edge": sizes.tile},
        do_image_splitting=grid != (1, 1),
    )
    processor = hf.Idefics3Processor(
        images,
        tokenizer,
        image_seq_len=(sizes.tile // sizes.patch // 2) ** 2,
        chat_template=CHAT_TEMPLATE.replace("PICTURE", "<image>"),
    )
    config = hf.SmolVLMConfig(
        text_config={
            "model_type": "llama",
            "hidden_size": sizes.hidden,
            "intermediate_size": sizes.intermediate,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.key_heads,
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": 8192,
            **token_ids(tokenizer),
        },
        vision_config={
            "hidden_size": sizes.vision_hidden,
            "intermediate_size": 4 * sizes.vision_hidden,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.tile,
            "patch_size": sizes.patch,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Built(random_model(hf.SmolVLMForConditionalGeneration, config, device), processor)


def random_model(kind: type[hf.PreTrainedModel], config: hf.PretrainedConfig, device: str) -> hf.PreTrainedModel:
    """A model of seed 0, made where it will run."""
    torch.manual_seed(0)
    config._attn_implementation = "sdpa"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
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


def _smolvlm_36m(grid: tuple[int, int], device: str) -> Built:
    return smolvlm(SMOLVLM_36M, grid, device)


def _smolvlm_toy(grid: tuple[int, int], device: str) -> Built:
    return smolvlm(SMOLVLM_TOY, grid, device)


SHAPES: dict[str, Callable[[tuple[int, int], str], Built]] = {
    "smolvlm-36m": _smolvlm_36m,
    "smolvlm-toy": _smolvlm_toy,
}
