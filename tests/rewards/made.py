"""Answers to judge, made by hand."""

from typing import Any

from sightline.rewards.completions import Completions, Images


def answers(*texts: str, messages: bool = False, **columns: list[Any]) -> Completions:
    """These answers to one question each, from rows `rows.jsonl:0`, `rows.jsonl:1`, …; one token a word."""
    question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
    return Completions(
        rows=[f"rows.jsonl:{i}" for i in range(len(texts))],
        prompts=[question if messages else "How many?" for _ in texts],
        texts=list(texts),
        conversational=[messages] * len(texts),
        token_ids=[[len(word) for word in text.split()] for text in texts],
        images=columns.pop("images", [Images(())] * len(texts)),
        columns=columns,
    )
