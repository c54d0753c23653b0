"""AMBER (arXiv:2311.07397) to the digit of its official scorer, `inference.py`.

Discriminative: answers are `Yes` or `No` to the letter, the positive class is "no", precision and recall are rounded to
0.1 before they enter F1, and 0.001 in every denominator keeps it from being zero (it never moves the last digit here).

Generative: nouns of the description that are in AMBER's vocabulary are *mentions*. Safe words are skipped, but count
among the mentions. A mention that is true covers its object; any other is a hallucination unless `similar` to a true
word. Officially `similar` is spaCy's en_core_web_lg at more than 0.8; without that model it is equality, and whoever
reports such a figure has to say so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sightline.scoring.chair import Mentions

KINDS = {
    "discriminative-hallucination": ("existence",),
    "discriminative-attribute-state": ("attribute", "attribute/state"),
    "discriminative-attribute-number": ("attribute", "attribute/number"),
    "discriminative-attribute-action": ("attribute", "attribute/action"),
    "discriminative-relation": ("relation",),
    "relation": ("relation",),
}
"""AMBER's question types → the groups they are reported in."""

OFFSET = 0.001

Similar = Callable[[str, str], bool]


@dataclass(frozen=True)
class Vocabulary:
    """AMBER's words. related: object → words that may stand for it. safe: words that are never a hallucination."""

    related: Mapping[str, Sequence[str]]
    safe: frozenset[str]

    @property
    def words(self) -> frozenset[str]:
        """All words that count as a mention."""
        return frozenset(self.related) | {word for words in self.related.values() for word in words}


def discriminative(answers: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, float]]:
    """Official figures in percent by group, `all` first, from (question type, truth, answer) triples."""
    sums: dict[str, list[float]] = {}
    for kind, truth, answer in answers:
        right = answer == {"yes": "Yes", "no": "No"}[truth]
        is_no, says_no = truth == "no", answer == "No"
        row = (right, 1, is_no and says_no, is_no, is_no and says_no, says_no)
        for group in ("all", *KINDS[kind]):
            counts = sums.setdefault(group, [0.0, OFFSET] * 3)
            for i, value in enumerate(row):
                counts[i] += value
    return {group: _discriminative_scores(group, counts) for group, counts in sums.items()}


def _discriminative_scores(group: str, counts: list[float]) -> dict[str, float]:
    right, asked, recalled, positives, precise, predicted = counts
    precision, recall = round(precise / predicted * 100, 1), round(recalled / positives * 100, 1)
    p, r = precision / 100, recall / 100
    # the official script has this constant ten times larger for existence
    constant = 0.001 if group == "existence" else 0.0001
    return {
        "accuracy": round(right / asked * 100, 1),
        "precision": precision,
        "recall": recall,
        "f1": round(2 * p * r / (p + r + constant) * 100, 1),
    }


def generative(counts: Sequence[Mentions]) -> dict[str, float]:
    """Official CHAIR, Cover, Hal and Cog in percent."""

    def share(part: int, whole: int) -> float:
        return part / (whole + OFFSET) * 100

    return {
        "chair": round(share(sum(c.hallucinated for c in counts), sum(c.mentioned for c in counts)), 1),
        "cover": round(share(sum(c.covered for c in counts), sum(c.present for c in counts)), 1),
        "hal": round(100 - share(sum(c.hallucinated == 0 for c in counts), len(counts)), 1),
        "cog": round(share(sum(c.expected for c in counts), sum(c.companions for c in counts)), 1),
    }


@dataclass(frozen=True)
class Reading:
    """What a description mentions: the counts, and the words that were taken for hallucinations."""

    counts: Mentions
    hallucinated: tuple[str, ...]


def read_description(
    nouns: Sequence[str],
    truth: Sequence[str],
    hallu: Sequence[str],
    vocabulary: Vocabulary,
    similar: Similar = str.__eq__,
) -> Reading:
    """Compare the nouns of a description (lemmas, in order) with AMBER's annotation of the image.

    truth, hallu: objects that are there, and objects one would expect that are not; repetitions count, as officially.
    """
    words = vocabulary.words
    mentioned = [noun for noun in nouns if noun in words]
    true_words, expected_words = _stand_ins(truth, vocabulary), _stand_ins(hallu, vocabulary)
    covered, expected, wrong = set(), set(), []
    for noun in mentioned:
        if noun in vocabulary.safe:
            continue
        place = _find(noun, true_words, str.__eq__)
        if place is not None:
            covered.add(place)
            continue
        for test in (str.__eq__, similar):
            place = _find(noun, expected_words, test)
            if place is not None:
                expected.add(place)
        place = _find(noun, true_words, similar)
        if place is not None:
            covered.add(place)
        else:
            wrong.append(noun)
    counts = Mentions(len(mentioned), len(wrong), len(truth), len(covered), len(hallu), len(expected))
    return Reading(counts, tuple(wrong))


def _stand_ins(objects: Sequence[str], vocabulary: Vocabulary) -> list[tuple[str, int]]:
    """(word, which object it stands for): first the related words of all objects, then the objects themselves."""
    related = [(word, i) for i, thing in enumerate(objects) for word in vocabulary.related[thing]]
    return [*related, *((thing, i) for i, thing in enumerate(objects))]


def _find(noun: str, stand_ins: list[tuple[str, int]], test: Similar) -> int | None:
    """The object of the first word that the noun matches."""
    return next((place for word, place in stand_ins if test(noun, word)), None)
