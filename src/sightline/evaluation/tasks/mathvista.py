"""MathVista (arXiv:2310.02255) from `testmini.json`: answers extracted by rule, or where no rule can by a judge."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluation.task import Item, Metric, Task
from sightline.evaluation.tasks.files import field, find, image_in, read_json
from sightline.evaluation.tasks.short_answers import WORDS, chosen_right, scorer, truth_text
from sightline.scoring.choices import chosen
from sightline.scoring.judge import Judge
from sightline.scoring.matching import value_of
from sightline.scoring.settled import settled
from sightline.scoring.text_answers import normal, same_number

BARE_NUMBER = re.compile(r"\s*-?[\d,]*\.?\d+\s*")
INSTRUCTION = (
    "A model answered a question, at length. Reply with its final answer alone: the letter where the question has "
    "choices, the number alone where it asks for one, else the few words of the answer. Reply `none` where the text "
    "answers nothing. Do not solve the question yourself."
)


def mathvista(data: Path, judge: Judge | None = None) -> Task:
    """The problems of `testmini.json`. judge: reads the final answer out of texts that are more than the answer."""
    source = "data/ of MathVista's repository"
    path = data if data.is_file() else find(data, ("testmini.json", "mathvista.json"), source)
    items = [_item(path, number, row) for number, row in read_json(path).items()]
    variant = "rule-based extraction" if judge is None else f"extraction by {judge.model}"
    note = (
        "Answers are extracted by rule, not by a judge: figures are not those of the leaderboard."
        if judge is None
        else f"Answers are extracted by {judge.model} with an instruction of our own, where they are not bare already."
    )
    return Task(
        name="mathvista",
        title=f"MathVista ({variant})",
        items=items,
        scorer=scorer("accuracy", _right if judge is None else _right_by(judge)),
        metrics=(Metric(name="accuracy", label="Accuracy", better="higher", explanation=variant), WORDS),
        correct="accuracy",
        max_new_tokens=256,
        at_once=1 if judge is None else 8,
        truth_text=truth_text,
        notes=(note,),
    )


def _item(path: Path, number: str, row: dict[str, Any]) -> Item:
    where = f"{path}, problem {number}"
    choices = row.get("choices") or []
    if choices and row["answer"] not in choices:
        raise DataError(f"{where}: the answer {row['answer']!r} is not among the choices.")
    name = field(row, ("image",), where)
    shown = name.removeprefix("images/") if (path.parent / "image").is_dir() else name
    return Item(
        id=str(number),
        question=str(row.get("query") or field(row, ("question",), where)),
        truth={
            "answers": [str(row["answer"])],
            "choices": choices,
            "kind": field(row, ("answer_type",), where),
            "precision": int(row["precision"]) if row.get("precision") else None,
        },
        image_id=name,
        images=(image_in(path.parent, shown, where),),
        groups=(str(row["question_type"]),) if row.get("question_type") else (),
    )


def _right_by(judge: Judge) -> Callable[[Item, str], float]:
    def right(item: Item, text: str) -> float:
        if not text.strip() or is_bare(item, text):
            return _right(item, text)
        asked = f"Question:\n{item.question}\n\nThe model's text:\n{text}"
        return _right(item, judge.reply(INSTRUCTION, asked, max_tokens=32))

    return right


def is_bare(item: Item, text: str) -> bool:
    """Whether a text is an answer and nothing else: one of the choices or its letter, or a number."""
    if item.truth["choices"]:
        return len(text.split()) <= 1 or (chosen(text, item.truth["choices"]) is not None and len(text) < 40)
    return BARE_NUMBER.fullmatch(text) is not None


def _right(item: Item, text: str) -> float:
    truth = item.truth["answers"][0]
    if item.truth["choices"]:
        return chosen_right(item, text)
    if item.truth["kind"] in ("integer", "float"):
        precision = item.truth["precision"] if item.truth["kind"] == "float" else None
        return float(same_number(value_of(text), truth, precision))
    return float(normal(truth) in map(normal, settled(text)))
