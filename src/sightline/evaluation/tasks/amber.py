"""AMBER (arXiv:2311.07397) from its official files: `annotations.json`, `relation.json`, `safe_words.txt`, `query/*`.

Two tasks: 14,216 yes/no questions, and 1,004 descriptions. Images are AMBER_1.jpg … in image/, downloaded apart.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from sightline.errors import DataError, RecipeError
from sightline.evaluation.task import Item, Published, Task
from sightline.evaluation.tasks.files import find, image_in, read_json, yes_or_no
from sightline.evaluation.tasks.metrics import CAPTIONS, metrics_of
from sightline.scoring import amber, chair, yes_no
from sightline.scoring.amber import KINDS, Reading, Similar, Vocabulary
from sightline.scoring.nouns import nouns
from sightline.scoring.ratio import Ratios, amount
from sightline.scoring.settled import final_answer

SOURCE = "data/ of AMBER's repository"
SPACY_MODEL = "en_core_web_lg"
SIMILAR_ABOVE = 0.8
SPACY_HINT = f"Install both (`pip install spacy`, `python -m spacy download {SPACY_MODEL}`), or leave --spacy out."
PUBLISHED_DISCRIMINATIVE = tuple(
    Published(label=label, scores={"accuracy": accuracy, "f1": f1})
    for label, accuracy, f1 in (
        ("GPT-4o", 88.8, 91.6),
        ("Idefics2 + DPO", 85.9, 89.4),
        ("Idefics2", 85.8, 89.1),
        ("GPT-4V", 83.4, 87.4),
        ("MiniGemini", 82.6, 87.6),
        ("Qwen-VL", 81.9, 86.4),
        ("LLaVA-NeXT", 81.4, 85.4),
        ("OPERA", 75.2, 78.3),
        ("LURE", 73.5, 77.7),
        ("Less-is-more", 72.4, 75.8),
        ("VCD", 71.8, 74.9),
    )
)
PUBLISHED_GENERATIVE = (Published(label="LLaVA-1.5-7B", scores={"chair": 7.8, "cover": 51.0, "hal": 36.4, "cog": 4.2}),)


def discriminative(folder: Path) -> Task:
    """Yes/no questions on existence, attributes and relations; positive class "no", as officially."""
    kinds = {a["id"]: a for a in read_json(find(folder, ("annotations.json",), SOURCE))}
    items = [
        _item(folder, row, truth={"kind": kinds[row["id"]]["type"], "answer": _truth(kinds[row["id"]])})
        for row in _queries(folder, "query_discriminative.json", kinds)
    ]
    return Task(
        name="amber-discriminative",
        title="AMBER discriminative",
        items=items,
        scorer=_score_answer,
        metrics=metrics_of([i.truth["answer"] for i in items], reading="“Yes” or “No” to the letter"),
        correct="accuracy",
        max_new_tokens=16,
        baselines={"always “No”": "No", "always “Yes”": "Yes"},
        published=PUBLISHED_DISCRIMINATIVE,
        official=_official_answers,
        truth_text=lambda item: item.truth["answer"],
        marks=lambda item, answer: (answer,) if yes_no.tolerant(answer) == "yes" != item.truth["answer"] else (),
        notes=("Positive class: no. The official parser takes “Yes” and “No” to the letter and nothing else.",),
    )


def generative(folder: Path, similar: Similar | None = None) -> Task:
    """Descriptions, scored by CHAIR, Cover, Hal and Cog.

    similar: the similarity of the official scorer (`en_core_web_lg` above 0.8); None scores by exact vocabulary, and
    the task's title says so.
    """
    annotations = {a["id"]: a for a in read_json(find(folder, ("annotations.json",), SOURCE))}
    vocabulary = read_vocabulary(folder)
    items = [
        _item(folder, row, truth={key: annotations[row["id"]][key] for key in ("truth", "hallu")})
        for row in _queries(folder, "query_generative.json", annotations)
    ]
    read = partial(_read, vocabulary=vocabulary, similar=similar or str.__eq__)
    variant = "exact vocabulary, without spaCy" if similar is None else "spaCy en_core_web_lg similarity"
    return Task(
        name="amber-generative",
        title=f"AMBER generative ({variant})",
        items=items,
        scorer=lambda item, answer: _score_description(read(item, answer), answer),
        metrics=CAPTIONS,
        correct="hal",
        max_new_tokens=256,
        published=PUBLISHED_GENERATIVE,
        official=lambda pairs: {"all": amber.generative([read(item, answer).counts for item, answer in pairs])},
        marks=lambda item, answer: read(item, answer).hallucinated,
        truth_text=lambda item: ", ".join(dict.fromkeys(item.truth["truth"])),
        notes=(
            f"Scored with {variant}; nouns by rule instead of NLTK's tagger, so that figures of papers are near, not "
            "equal.",
        ),
    )


def read_vocabulary(folder: Path) -> Vocabulary:
    """AMBER's words from relation.json and safe_words.txt."""
    safe = find(folder, ("safe_words.txt",), SOURCE).read_text(encoding="utf-8").split("\n")
    return Vocabulary(read_json(find(folder, ("relation.json",), SOURCE)), frozenset(safe))


def _queries(folder: Path, name: str, annotations: dict[int, Any]) -> list[dict[str, Any]]:
    path = find(folder, (f"query/{name}", name), SOURCE)
    rows = read_json(path)
    unknown = [row["id"] for row in rows if row["id"] not in annotations]
    if unknown:
        raise DataError(
            f"{path} asks question {unknown[0]}, which annotations.json does not know. Take both files from the same "
            "version of AMBER."
        )
    return rows


def _item(folder: Path, row: dict[str, Any], truth: dict[str, Any]) -> Item:
    return Item(
        id=str(row["id"]),
        question=row["query"],
        truth=truth,
        image_id=row["image"],
        images=(image_in(folder, row["image"], f"AMBER question {row['id']}"),),
        groups=KINDS.get(truth.get("kind", ""), ()),
    )


def _truth(annotation: dict[str, Any]) -> str:
    return yes_or_no(annotation["truth"], f"AMBER annotation {annotation['id']}")


def _score_answer(item: Item, answer: str) -> Ratios:
    return yes_no.judge_text(answer, item.truth["answer"], positive="no")


def _official_answers(pairs: Sequence[tuple[Item, str]]) -> dict[str, dict[str, float]]:
    return amber.discriminative((item.truth["kind"], item.truth["answer"], answer) for item, answer in pairs)


def _read(item: Item, answer: str, *, vocabulary: Vocabulary, similar: Similar) -> Reading:
    found = nouns(final_answer(answer), vocabulary.words)
    return amber.read_description(found, item.truth["truth"], item.truth["hallu"], vocabulary, similar)


def _score_description(reading: Reading, answer: str) -> Ratios:
    return {**chair.judge(reading.counts), "words": amount(len(answer.split()))}


def spacy_similar() -> Similar:
    """Whether two words are more than 0.8 similar, by which the official scorer forgives a near miss.

    spaCy is no dependency. Raises `RecipeError` where spaCy or its model is not installed."""
    try:
        spacy: Any = import_module("spacy")
    except ImportError:
        raise RecipeError(
            f"--spacy scores AMBER's descriptions as officially, but spaCy is not installed. {SPACY_HINT}"
        ) from None
    try:
        read: Callable[[str], Any] = spacy.load(SPACY_MODEL)
    except OSError as error:
        raise RecipeError(
            f"--spacy needs spaCy's model {SPACY_MODEL}, which cannot be loaded ({error}). {SPACY_HINT}"
        ) from None
    known = lru_cache(maxsize=None)(read)

    @cache
    def similar(a: str, b: str) -> bool:
        return bool(known(a).similarity(known(b)) > SIMILAR_ABOVE)

    return similar
