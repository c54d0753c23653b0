"""Shortcuts: how well chosen can be told from rejected by length alone, or by the presence of one word."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from sightline.scoring.interval import wilson

MIN_PAIRS = 20
"""Pairs below which nothing is called a shortcut."""
LENGTH_ACCURACY = 0.6
"""Accuracy from which length counts as a shortcut, when its interval excludes 0.55."""
WORD_ACCURACY = 0.85
"""Accuracy from which a word counts as one, when its interval excludes 0.75 and it decides a share of all pairs."""
WORD_SHARE = 0.05


class Shortcut(NamedTuple):
    """A word that only one side has in `num_pairs` pairs, and how often that side is the chosen one."""

    word: str
    num_pairs: int
    chosen_share: float


@dataclass
class Shortcuts:
    """Counts over pairs; `add` one at a time."""

    num_pairs: int = 0
    num_longer: int = 0
    num_shorter: int = 0
    in_chosen: Counter[str] = field(default_factory=Counter)
    in_rejected: Counter[str] = field(default_factory=Counter)
    differences: array = field(default_factory=lambda: array("i"))

    def add(self, chosen_length: int, rejected_length: int, words: tuple[frozenset[str], frozenset[str]]) -> None:
        """One pair: lengths in characters; the words that only chosen has, and only rejected."""
        self.num_pairs += 1
        self.num_longer += chosen_length > rejected_length
        self.num_shorter += chosen_length < rejected_length
        self.differences.append(chosen_length - rejected_length)
        self.in_chosen.update(words[0])
        self.in_rejected.update(words[1])

    @property
    def chosen_longer(self) -> float:
        """Share of pairs whose chosen side is the longer one."""
        return self.num_longer / self.num_pairs if self.num_pairs else 0.0

    @property
    def length_accuracy(self) -> float:
        """What a classifier scores that only sees which side is longer; equal lengths are a coin toss."""
        if not self.num_pairs:
            return 0.5
        even = self.num_pairs - self.num_longer - self.num_shorter
        return (max(self.num_longer, self.num_shorter) + even / 2) / self.num_pairs

    @property
    def is_length_biased(self) -> bool:
        """Whether length is a shortcut, beyond what chance explains."""
        low = wilson(self.length_accuracy * self.num_pairs, self.num_pairs).low
        return self.num_pairs >= MIN_PAIRS and self.length_accuracy >= LENGTH_ACCURACY and low > 0.55

    def words(self, most: int = 5) -> list[Shortcut]:
        """The words that decide most pairs."""
        enough = max(MIN_PAIRS, WORD_SHARE * self.num_pairs)
        found = []
        for word in self.in_chosen.keys() | self.in_rejected.keys():
            chosen, total = self.in_chosen[word], self.in_chosen[word] + self.in_rejected[word]
            accuracy = max(chosen, total - chosen) / total
            if total >= enough and accuracy >= WORD_ACCURACY and wilson(accuracy * total, total).low > 0.75:
                found.append(Shortcut(word, total, chosen / total))
        return sorted(found, key=lambda s: (-s.num_pairs, s.word))[:most]
