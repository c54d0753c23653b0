"""Which of the given choices an answer picks: by its letter, by its text, by what its text comes to."""

import re
from collections.abc import Sequence

from sightline.scoring.letters import LETTERS, chosen_letter
from sightline.scoring.matching import mathematical, whole_expression
from sightline.scoring.settled import bare, final_answer, plain, settled
from sightline.scoring.text_answers import normal

DENIED = re.compile(r"(?:\bnot|n't|\binstead of|\brather than|\bnor|\bneither|\bunlike)\s+(?:(?:a|an|the)\s+)?$")


def chosen(answer: str, choices: Sequence[str]) -> int | None:
    """The place of the choice that an answer picks; None where it picks none, or several.

    A bare letter is a letter, whatever the choices say. Then what the answer settles on, as one choice's text: to the
    letter, up to case and spaces (signs and operators count: −5 is not 5), as the same number or formula. Then a letter
    in a sentence, then the last number or formula, then the only choice whose text occurs and is not denied, longer
    texts first.
    """
    letters = LETTERS[: len(choices)]
    said = final_answer(answer)
    parts = settled(answer)
    if not said or not choices:
        return None
    if re.fullmatch(r"[\s*\"'(\[]*[A-Z][\s*\"'.):\]]*", bare(parts[0])):
        letter = chosen_letter(parts[0], letters)
        if letter is not None:
            return letters.index(letter)
    for part in parts:
        by_text = _equal(part, choices)
        if by_text is not None:
            return by_text
    letter = chosen_letter(answer, letters)
    if letter is not None:
        return letters.index(letter)
    by_value = _only([bool(mathematical(answer, choice)) for choice in choices])
    if by_value is not None:
        return by_value
    for part in parts:
        found = _only([normal(choice) == normal(part) != "" for choice in choices])
        found = _contained(part, choices) if found is None else found
        if found is not None:
            return found
    return None


def _equal(part: str, choices: Sequence[str]) -> int | None:
    """The choice that the text is, from the strictest sense of that on."""
    senses = (lambda text: text.strip(), plain, lambda text: re.sub(r"\s", "", plain(text)))
    for sense in senses:
        found = _only([sense(choice) == sense(part) != "" for choice in choices])
        if found is not None:
            return found
    return None if whole_expression(part) is None else _only([bool(mathematical(part, choice)) for choice in choices])


def _contained(part: str, choices: Sequence[str]) -> int | None:
    """The only choice whose text occurs as whole words; a longer choice that holds another's text goes before it."""
    text = plain(part)
    named = set()
    for place in sorted(range(len(choices)), key=lambda i: -len(plain(choices[i]))):
        wanted = plain(choices[place])
        if not re.search(r"\w", wanted):
            continue
        pattern = re.compile(rf"(?<![\w.,+\-−]){re.escape(wanted)}(?![\w]|[.,]\d|\s*[-+*/^=<>])")
        for found in pattern.finditer(text):
            if not DENIED.search(text[: found.start()]):
                named.add(place)
        text = pattern.sub(lambda found: "\0" * len(found.group()), text)
    return next(iter(named)) if len(named) == 1 else None


def _only(holds: Sequence[bool]) -> int | None:
    """The place of the only one that holds."""
    return list(holds).index(True) if sum(holds) == 1 else None
