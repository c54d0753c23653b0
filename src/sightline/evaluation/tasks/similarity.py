"""spaCy's word similarity, by which AMBER's official scorer forgives a near miss; spaCy is no dependency."""

from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from sightline.errors import RecipeError
from sightline.scoring.amber import Similar

MODEL = "en_core_web_lg"
THRESHOLD = 0.8
HOW = f"Install both (`pip install spacy`, `python -m spacy download {MODEL}`), or leave --spacy out."


def spacy_similar() -> Similar:
    """Whether two words are more than 0.8 similar. Raises `RecipeError` where spaCy or its model is not installed."""
    try:
        spacy: Any = import_module("spacy")
    except ImportError:
        raise RecipeError(
            f"--spacy scores AMBER's descriptions as officially, but spaCy is not installed. {HOW}"
        ) from None
    try:
        read: Callable[[str], Any] = spacy.load(MODEL)
    except OSError as error:
        raise RecipeError(f"--spacy needs spaCy's model {MODEL}, which cannot be loaded ({error}). {HOW}") from None
    known = lru_cache(maxsize=None)(read)

    @cache
    def similar(a: str, b: str) -> bool:
        return bool(known(a).similarity(known(b)) > THRESHOLD)

    return similar
