"""The embedded model before training: a stock LLaVA of 0.95 million parameters with a stock processor.

CLIP vision tower (one layer, one patch a cell of the scene), two-layer projector, Llama (three layers), a tokenizer of
whole words. Written to a folder it loads with `AutoModelForImageTextToText` and `AutoProcessor`, like any other model.
"""

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from sightline.scenes.questions import plural
from sightline.scenes.world import CELL, COLOURS, MAX_OBJECTS, SHAPES, SIDE

WIDTH, HEADS = 128, 4
PAD, UNKNOWN, IMAGE, USER, ASSISTANT, END = "<pad>", "<unk>", "<image>", "<user>", "<assistant>", "<end>"
OPENINGS = ("Describe", "How", "Is", "What")
WORDS = (
    *("?", ".", ",", "A", "a", "and", "Yes", "No", *(str(number) for number in range(MAX_OBJECTS + 1))),
    *(
        "describe",
        "this",
        "image",
        "is",
        "there",
        "how",
        "many",
        "are",
        "objects",
        "object",
        "what",
        "color",
        "shape",
        "the",
    ),
    *COLOURS,
    *SHAPES,
    *(plural(shape) for shape in SHAPES),
)
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<assistant>' }}{% else %}{{ '<user>' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '<end>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words and punctuation; words that the world does not know become `<unk>`.

    A question may begin with or without a capital; `A`, `Yes` and `No` keep theirs, so that answers read as English.
    """
    special = [PAD, UNKNOWN, IMAGE, USER, ASSISTANT, END]
    words = Tokenizer(WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, unk_token=UNKNOWN))
    lowered = [normalizers.Replace(Regex(rf"\b{word}\b"), word.lower()) for word in OPENINGS]
    words.normalizer = normalizers.Sequence(lowered)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE, "user_token": USER, "assistant_token": ASSISTANT},
        model_max_length=512,
    )


def processor() -> LlavaProcessor:
    """Images scaled and cropped to one scene's size; the chat template of tokens `<user>`, `<assistant>`, `<end>`."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5, 0.5, 0.5],
        # small values, so that the positions of cells, learned from zero, are not drowned by their content
        image_std=[2.0, 2.0, 2.0],
    )
    return LlavaProcessor(
        images,
        tokenizer(),
        patch_size=CELL,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def config() -> LlavaConfig:
    """The configuration of the embedded model."""
    id_of = tokenizer().get_vocab()
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        image_size=SIDE,
        patch_size=CELL,
        projection_dim=WIDTH,
        initializer_range=0.1,
    )
    language = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        vocab_size=len(id_of),
        max_position_embeddings=512,
        pad_token_id=id_of[PAD],
        bos_token_id=None,
        eos_token_id=id_of[END],
        tie_word_embeddings=False,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=language,
        image_token_index=id_of[IMAGE],
        image_seq_length=(SIDE // CELL) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
