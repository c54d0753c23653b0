"""Tiny models for vLLM, whose attention on a CPU wants heads of 32 dimensions at least."""

from pathlib import Path

from sightline.rehearsal import tiny_models


def save(family: str, folder: Path) -> Path:
    """Write a tiny model with heads of 32 dimensions and its processor to `folder`."""
    return tiny_models.save(family, folder, head_size=32)
