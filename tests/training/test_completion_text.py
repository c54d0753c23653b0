"""What rewards read of a completion: all of the assistant's turn, tags that are special tokens among it, and no end."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from sightline.models.load import EMBEDDED
from sightline.training.online.rollouts import CompletionText
from sightline.types import Group, Prompt
from tests.data.processors import byte_tokenizer, sentencepiece_tokenizer
from tests.training.test_online import prompts, run

TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def prompt(text: str) -> Prompt:
    group = Group(id="rows:0", prompt_ids=torch.arange(3), responses=(), weights=())
    return Prompt(group=group, messages=(), text=text)


@pytest.mark.parametrize("make", [byte_tokenizer, sentencepiece_tokenizer])
def test_text_is_what_it_was_but_for_tags(make):
    tokenizer = make(*TAGS)
    end, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
    text_of = CompletionText(tokenizer=tokenizer, ends=frozenset({end, padding}))
    for text in ("A cup of coffee.", " two spoons", "a\nb"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        whole = torch.tensor([*ids, end, padding, padding])
        assert text_of(prompt("x"), whole) == tokenizer.decode(whole, skip_special_tokens=True)
    ids = [tokenizer.convert_tokens_to_ids(tag) for tag in TAGS]
    between = tokenizer("cup", add_special_tokens=False)["input_ids"]
    said = text_of(prompt("x"), torch.tensor([ids[0], *between, ids[1], ids[2], *between, ids[3], end]))
    assert said.replace(" ", "") == "<think>cup</think><answer>cup</answer>"


def test_what_the_prompt_opened_is_the_completion_s_beginning():
    tokenizer = byte_tokenizer()
    ids = torch.tensor(tokenizer("cup")["input_ids"])
    text_of = CompletionText(tokenizer=tokenizer, ends=frozenset(), opening="<think>\n")
    assert text_of(prompt("<|im_start|>assistant\n<think>\n"), ids) == "<think>\ncup"
    assert text_of(prompt("<|im_start|>assistant\n"), ids) == "cup", "a row whose prompt opens nothing"


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
