"""Tiny models for vLLM, whose attention on a CPU wants heads of 32 dimensions at least."""

from pathlib import Path

import pytest

from sightline.rehearsal import tiny_models, tiny_parts, tiny_qwen


def save(family: str, folder: Path) -> Path:
    """Write a tiny model with heads of 32 dimensions and its processor to `folder`."""
    rope = tiny_qwen._rope() | {"mrope_section": [4, 6, 6]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_parts, "HEADS", 2)
        patch.setattr(tiny_qwen, "_rope", lambda: rope)
        return tiny_models.save(family, folder)
