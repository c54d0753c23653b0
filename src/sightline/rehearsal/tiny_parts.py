"""Pieces of tiny models: the tokenizer, and the configs of language model and vision tower."""

from functools import cache
from typing import Any

import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HIDDEN, LAYERS, HEADS, HEAD_SIZE, VOCABULARY = 64, 2, 4, 16, 640
VISION_HIDDEN, VISION_LAYERS, IMAGE, PATCH = 32, 2, 56, 14

Built = tuple[hf.PreTrainedModel, hf.ProcessorMixin]

CORPUS = [
    "the quick brown fox jumps over the lazy dog. What is shown in this image? A red square and a blue circle.",
    "Describe the picture in detail. user assistant system yes no left right green yellow number 0 1 2 3 4 5 6 7 8 9",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}PICTURE"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@cache
def _trained_tokenizer(special: tuple[str, ...]) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    always = ["<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=[*always, *special], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer.to_str()


def make_tokenizer(*special: str, **named: str) -> hf.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with these special tokens; named ones become attributes such as `image_token`."""
    names = {"extra_special_tokens": named} if named else {}
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_tokenizer((*special, *named.values()))),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        padding_side="right",
        **names,
    )
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def language(tokenizer: hf.PreTrainedTokenizerFast, model_type: str = "llama", **others: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS // 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": False,
        **others,
    }


def vision(**others: Any) -> dict[str, Any]:
    return {
        "hidden_size": VISION_HIDDEN,
        "intermediate_size": 2 * VISION_HIDDEN,
        "num_hidden_layers": VISION_LAYERS,
        "num_attention_heads": 2,
        "image_size": IMAGE,
        "patch_size": PATCH,
        **others,
    }


def clip() -> dict[str, Any]:
    return vision(model_type="clip_vision_model", projection_dim=VISION_HIDDEN)


def siglip() -> dict[str, Any]:
    return vision(model_type="siglip_vision_model", vision_use_head=False)


def others_of(**names: Any) -> dict[str, Any]:
    """Token ids that a configuration takes though its signature does not name them."""
    return dict(names)


def template(picture: str) -> str:
    return CHAT_TEMPLATE.replace("PICTURE", picture)


def token_id(tokenizer: hf.PreTrainedTokenizerFast, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found
