"""Tasks on questions with short answers, from a JSONL of your own.

A row: `id`, `image` (path next to the file, or in its image/), `question`, and `answer` or `answers`; multiple choice
has `choices` too. How an answer is judged is the task's name.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluation.task import Item, Metric, Scorer, Task
from sightline.evaluation.tasks.files import answers_in, field, find, image_in, read_rows, told_apart
from sightline.scoring.choices import chosen
from sightline.scoring.letters import LETTERS
from sightline.scoring.matching import relaxed
from sightline.scoring.ratio import amount, rate
from sightline.scoring.settled import given, settled
from sightline.scoring.text_answers import FEWEST_PEOPLE, anls, vqa_accuracy

WORDS = Metric(name="words", label="Words", better="neither", unit="number", explanation="words an answer")
SHORT = "{question}\nAnswer the question using a single word or phrase."
NAMES = ("questions.jsonl", "questions.json")


def vqa(data: Path) -> Task:
    """VQA accuracy: human answers agree with it; of fewer than four answers, any is right."""
    task = _task(
        data, "vqa", "VQA", "VQA accuracy", lambda item, text: vqa_accuracy(given(text), item.truth["answers"])
    )
    few = sum(len(item.truth["answers"]) < FEWEST_PEOPLE for item in task.items)
    note = f"{few:,} of {len(task.items):,} questions have fewer than {FEWEST_PEOPLE} answers: any of them is right."
    return replace(task, notes=(*task.notes, note)) if few else task


def anls_task(data: Path) -> Task:
    """ANLS, of DocVQA and InfographicVQA."""
    return _task(data, "anls", "ANLS", "ANLS", lambda item, text: anls(given(text), item.truth["answers"]))


def chartqa(data: Path) -> Task:
    """ChartQA's relaxed accuracy: numbers within 5%."""

    def judge(item: Item, text: str) -> float:
        said = [part.rstrip(".") for part in settled(text)]
        return float(any(relaxed(part, truth) for part in said for truth in item.truth["answers"]))

    return _task(data, "chartqa", "ChartQA", "Relaxed accuracy", judge)


def choice(data: Path) -> Task:
    """Multiple choice: the letter, or the words of a choice."""
    ask = "{question}\nAnswer with the option's letter from the given choices directly."
    return _task(data, "choice", "Multiple choice", "Accuracy", chosen_right, prompt=ask, with_choices=True)


def _task(
    data: Path,
    name: str,
    title: str,
    metric: str,
    judge: Callable[[Item, str], float],
    *,
    prompt: str = SHORT,
    with_choices: bool = False,
) -> Task:
    path = data if data.is_file() else find(data, NAMES, "one JSON object a line: id, image, question, answers")
    rows = enumerate(read_rows(path), start=1)
    items, notes = told_apart(_item(path, row, number, with_choices) for number, row in rows)
    return Task(
        name=name,
        title=title,
        items=items,
        scorer=scorer("accuracy", judge),
        metrics=(Metric(name="accuracy", label=metric, better="higher"), WORDS),
        correct="accuracy",
        max_new_tokens=32,
        prompt=prompt,
        truth_text=truth_text,
        notes=notes,
    )


def _item(path: Path, row: dict[str, Any], number: int, with_choices: bool) -> Item:
    where = f"{path}, row {number}"
    answers = answers_in(row, where)
    choices = choices_in(row, where) if with_choices else []
    question = str(field(row, ("question",), where))
    if choices:
        answers = [_choice(answer, choices, where) for answer in answers]
        question += "".join(f"\n{a}. {text}" for a, text in zip(LETTERS, choices, strict=False))
    name = str(field(row, ("image",), where))
    return Item(
        id=str(row.get("id", number)),
        question=question,
        truth={"answers": answers, "choices": choices},
        image_id=name,
        images=(image_in(path.parent, name, where),),
        groups=tuple(str(g) for g in row.get("groups", ())),
    )


def choices_in(row: dict[str, Any], where: str) -> list[str]:
    """The choices' texts under `choices` or `options`: a list, or an object by letter.

    Raises `DataError` for anything else, for more than there are letters, and for two that are the same.
    """
    found = field(row, ("choices", "options"), where)
    if isinstance(found, dict) and list(found) == list(LETTERS[: len(found)]):
        found = list(found.values())
    if not isinstance(found, list) or not all(isinstance(one, str | int | float) for one in found):
        raise DataError(f"{where}: the choices are {found!r:.80}; a list of texts is expected, or an object by letter.")
    choices = [str(one) for one in found]
    if len(choices) > len(LETTERS):
        raise DataError(f"{where} has {len(choices)} choices; at most {len(LETTERS)} have letters.")
    if len(set(choices)) < len(choices):
        raise DataError(f"{where}: two of the choices are the same ({', '.join(choices)}); give every one once.")
    return choices


def _choice(answer: str, choices: Sequence[str], where: str) -> str:
    """The choice that a row's answer is, by its text or its letter. Raises `DataError` where it is none, or two."""
    by_letter = dict(zip(LETTERS, choices, strict=False)).get(answer.strip().strip("().").upper())
    by_text = answer if answer in choices else None
    if by_text is not None and by_letter not in (None, by_text):
        raise DataError(
            f"{where}: the answer {answer!r} is the letter of {by_letter!r} and the text of another choice. Write the "
            f"letter of the right one in brackets, as in ({LETTERS[choices.index(by_text)]})."
        )
    found = by_text if by_text is not None else by_letter
    if found is None:
        raise DataError(f"{where}: the answer {answer!r} is neither a letter nor one of the choices.")
    return found


def scorer(name: str, judge: Callable[[Item, str], float]) -> Scorer:
    """A scorer of one figure between 0 and 1, and of the answer's length."""

    def score(item: Item, text: str) -> dict[str, Any]:
        value = judge(item, text)
        scored = rate(bool(value)) if value in (0.0, 1.0) else amount(value)
        return {name: scored, "words": amount(len(text.split()))}

    return score


def chosen_right(item: Item, text: str) -> float:
    """1 where the answer names the right choice, else 0."""
    found = chosen(text, item.truth["choices"])
    return float(found is not None and item.truth["choices"][found] in item.truth["answers"])


def truth_text(item: Item) -> str:
    """The accepted answers for readers."""
    return " / ".join(dict.fromkeys(item.truth["answers"]))
