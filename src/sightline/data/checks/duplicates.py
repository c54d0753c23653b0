"""Rows that are there twice, images that are in two splits, and labels that contradict each other."""

from dataclasses import dataclass, field

from sightline.data.checks.examine import Facts
from sightline.data.checks.glance import HASH_BITS, SAME_HASH, Glance, show_the_same

BANDS = 16
"""Stretches of a hash: two hashes that differ in fewer bits than there are bands agree in one of them."""
WIDTH = HASH_BITS // BANDS
assert BANDS > SAME_HASH


@dataclass
class Duplicates:
    """What has been seen so far; `add` a row and its split at a time. Memory: about a kilobyte a row."""

    rows: dict[bytes, str] = field(default_factory=dict)
    images: dict[str, dict[Glance, str]] = field(default_factory=dict)
    answers: dict[bytes, dict[bytes, int]] = field(default_factory=dict)

    def add(self, facts: Facts, split: str) -> list[tuple[str, str]]:
        """Take a row in; (defect, id of the earlier row) where it repeats or contradicts one."""
        found: list[tuple[str, str]] = []
        if facts.row_key:
            first = self.rows.setdefault(facts.row_key, facts.id)
            if first != facts.id:
                found.append(("duplicate row", first))
        if facts.question_key and self._contradicts(facts):
            found.append(("contradicting labels", ""))
        for image in facts.glances:
            self.images.setdefault(split, {}).setdefault(image, facts.id)
        return found

    def _contradicts(self, facts: Facts) -> bool:
        """Whether an answer to the same question was the better one before and is now the worse one, or the reverse."""
        earlier = self.answers.setdefault(facts.question_key, {})
        contradicts = False
        for key, side in facts.answers:
            before = earlier.setdefault(key, side)
            contradicts |= before * side < 0
        return contradicts

    def across_splits(self) -> list[tuple[str, str]]:
        """(row, row of another split) that show the same image, once an image of the later split."""
        found = []
        splits = list(self.images)
        for i, split in enumerate(splits):
            for other in splits[i + 1 :]:
                found += _near(self.images[split], self.images[other])
        return found


def _near(ours: dict[Glance, str], theirs: dict[Glance, str]) -> list[tuple[str, str]]:
    """(row of ours, row of theirs) that show one image."""
    buckets: dict[tuple[int, int], list[Glance]] = {}
    for image in ours:
        for band in _bands(image.hash):
            buckets.setdefault(band, []).append(image)
    found = []
    for image, row in theirs.items():
        candidates = [image] if image in ours else (c for band in _bands(image.hash) for c in buckets.get(band, ()))
        match = next((c for c in candidates if show_the_same(c, image)), None)
        if match is not None:
            found.append((ours[match], row))
    return found


def _bands(image_hash: bytes) -> list[tuple[int, int]]:
    """The stretches of a hash with their number; flat stretches, which all drawings share, are left out."""
    value = int.from_bytes(image_hash, "big")
    stretches = [(band, (value >> (band * WIDTH)) & (2**WIDTH - 1)) for band in range(BANDS)]
    return [stretch for stretch in stretches if stretch[1]] or stretches[:1]
