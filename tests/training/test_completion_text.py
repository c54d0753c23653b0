"""What rewards read of a completion: all of the assistant's turn, tags that are special tokens among it, and no end."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from sightline.config import ModelConfig
from sightline.evaluation.run import evaluate
from sightline.generation.text import CompletionText
from sightline.models.load import EMBEDDED, load_model, load_processor
from tests.data.processors import byte_tokenizer, sentencepiece_tokenizer
from tests.evaluation import toy
from tests.training.test_online import prompts, run

TAGS = ("<think>", "</think>", "<answer>", "</answer>")


@pytest.mark.parametrize("make", [byte_tokenizer, sentencepiece_tokenizer])
def test_text_is_what_it_was_but_for_tags(make):
    tokenizer = make(*TAGS)
    end, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
    text_of = CompletionText(tokenizer=tokenizer, ends=frozenset({end, padding}))
    for text in ("A cup of coffee.", " two spoons", "a\nb"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        whole = torch.tensor([*ids, end, padding, padding])
        assert text_of(whole) == tokenizer.decode(whole, skip_special_tokens=True)
    ids = [tokenizer.convert_tokens_to_ids(tag) for tag in TAGS]
    between = tokenizer("cup", add_special_tokens=False)["input_ids"]
    said = text_of([ids[0], *between, ids[1], ids[2], *between, ids[3], end])
    assert said.replace(" ", "") == "<think>cup</think><answer>cup</answer>"


def test_what_the_prompt_opened_is_the_completion_s_beginning():
    tokenizer = byte_tokenizer()
    ids = torch.tensor(tokenizer("cup")["input_ids"])
    text_of = CompletionText(tokenizer=tokenizer, ends=frozenset(), opening="<think>\n")
    assert text_of(ids, "<|im_start|>assistant\n<think>\n") == "<think>\ncup"
    assert text_of(ids, "<|im_start|>assistant\n") == "cup", "a row whose prompt opens nothing"


def thinking_model(folder: Path) -> Path:
    """The embedded model with tags as special tokens and a template that opens `<think>`."""
    shutil.copytree(EMBEDDED, folder)
    template = folder / "chat_template.jinja"
    text, ending = template.read_text(), "{{ '<assistant>' }}{% endif %}"
    assert text.endswith(ending)
    template.write_text(text.removesuffix(ending) + "{{ '<assistant><think>' }}{% endif %}")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for tag in TAGS:
        number = len(tokenizer["model"]["vocab"])
        tokenizer["model"]["vocab"][tag] = number
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        tokenizer["added_tokens"].append({"id": number, "content": tag, "special": True, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    model.resize_token_embeddings(number + 1)
    model.save_pretrained(folder)
    return folder


def test_a_run_s_rewards_read_tags_and_what_the_template_opened(tmp_path):
    seen = []

    def look(completions, completion_ids, **columns):
        seen.extend(zip(completions, completion_ids, strict=True))
        return [float(len(ids)) for ids in completion_ids]

    model = thinking_model(tmp_path / "model")
    run(tmp_path / "run", model, prompts(4), reward=look, max_steps=1, sampler={"temperature": 100.0})
    tokenizer = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    assert all(text.startswith("<think>") for text, _ in seen)
    for tag in TAGS:
        opened = tag == "<think>"
        assert all(text.count(tag) == ids.count(tokenizer[tag]) + opened for text, ids in seen)
    assert any(tokenizer[tag] in ids for tag in TAGS for _, ids in seen)
    assert not any("<end>" in text or "<pad>" in text for text, _ in seen)


def test_an_evaluation_reads_tags_that_are_special_tokens(tmp_path):
    """The model writes `</think>` wherever it wrote its first word: their rows are swapped in head and embedding."""
    folder = thinking_model(tmp_path / "model")
    shutil.copy(EMBEDDED / "chat_template.jinja", folder)
    config = ModelConfig(name=str(folder))
    model, processor = load_model(config), load_processor(config)
    before = [record.answer for record in evaluate(model, processor, toy.task())]
    word = processor.tokenizer(before[0])["input_ids"][0]
    tag = processor.tokenizer.convert_tokens_to_ids("</think>")
    for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
        layer.weight.data[[word, tag]] = layer.weight.data[[tag, word]]
    after = [record.answer for record in evaluate(model, processor, toy.task())]
    assert after[0].startswith("</think>")
    assert after[0].removeprefix("</think>").strip() == before[0].removeprefix(processor.tokenizer.decode(word)).strip()
