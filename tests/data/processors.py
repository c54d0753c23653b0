"""Processors of four families with tokenizers trained here, for tests that render rows. No weights, no network."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessorPil,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaProcessor,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
)

CORPUS = [
    "USER: What is shown in this image? ASSISTANT: A cup of coffee on a saucer, and a spoon.",
    "user assistant system yes no left right green yellow red blue one two three 0 1 2 3 4 5 6 7 8 9",
]
CHATML = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n'}}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{c['text']}}{% endif %}{% endfor %}{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}"
)
LLAVA_1_5 = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""The template that llava-hf/llava-1.5-7b-hf ships: it ends no turn with a token."""


def byte_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as in Qwen and SmolLM."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    base = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=base, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "<|im_end|>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    return fast


def sentencepiece_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """Llama 2's: a space goes in front of every text, BOS in front of every prompt."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=True)
    alphabet = [*map(chr, range(32, 127)), "\n", "▁"]
    base = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=base, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"pad_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    return fast


def llava(tokenizer: PreTrainedTokenizerFast | None = None, template: str | None = None) -> LlavaProcessor:
    """16 image tokens an image."""
    images = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    return LlavaProcessor(
        images,
        tokenizer or byte_tokenizer("<image>"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template or CHATML.replace("IMAGE", "<image>\n"),
    )


def llava_1_5() -> LlavaProcessor:
    """Llama's tokenizer and LLaVA-1.5's own template."""
    return llava(sentencepiece_tokenizer("<image>"), LLAVA_1_5)


def idefics3() -> Idefics3Processor:
    """Splits images into tiles: the number of tokens depends on their size."""
    tiles = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    tokenizer = byte_tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *tiles)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 112}, max_image_size={"longest_edge": 56}, do_image_splitting=True
    )
    return Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=CHATML.replace("IMAGE", "<image>"))


def paligemma() -> PaliGemmaProcessor:
    """Base PaliGemma: no chat template."""
    images = SiglipImageProcessorPil(size={"height": 56, "width": 56})
    images.image_seq_length = 16
    return PaliGemmaProcessor(images, byte_tokenizer("<image>"))
