"""Tasks on questions with short answers, from a JSONL of your own or MathVista's own JSON.

A row: `id`, `image` (path next to the file, or in its image/), `question`, and `answer` or `answers`; multiple choice
has `choices` too. How an answer is judged is the task's name.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluation.task import Item, Metric, Scorer, Task
from sightline.evaluation.tasks.files import field, find, picture_in, read_json, read_rows
from sightline.rewards.matching import chosen_letter, final_answer, relaxed
from sightline.scoring.ratio import amount, rate
from sightline.scoring.text_answers import anls, normal, same_number, vqa_accuracy

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WORDS = Metric(name="words", label="Words", better="neither", unit="number", explanation="words an answer")
SHORT = "{question}\nAnswer the question using a single word or phrase."
NAMES = ("questions.jsonl", "questions.json")


def vqa(data: Path) -> Task:
    """VQA accuracy: human answers agree with it."""
    return _task(data, "vqa", "VQA", "VQA accuracy", lambda item, text: vqa_accuracy(text, item.truth["answers"]))


def anls_task(data: Path) -> Task:
    """ANLS, of DocVQA and InfographicVQA."""
    return _task(data, "anls", "ANLS", "ANLS", lambda item, text: anls(text, item.truth["answers"]))


def chartqa(data: Path) -> Task:
    """ChartQA's relaxed accuracy: numbers within 5%."""

    def judge(item: Item, text: str) -> float:
        return float(any(relaxed(final_answer(text).rstrip("."), truth) for truth in item.truth["answers"]))

    return _task(data, "chartqa", "ChartQA", "Relaxed accuracy", judge)


def choice(data: Path) -> Task:
    """Multiple choice: the letter, or the words of a choice."""
    ask = "{question}\nAnswer with the option's letter from the given choices directly."
    return _task(data, "choice", "Multiple choice", "Accuracy", _chosen_right, prompt=ask, with_choices=True)


def mathvista(data: Path) -> Task:
    """MathVista (arXiv:2310.02255) from `testmini.json`, answers extracted by rule instead of by GPT-4."""
    path = (
        data if data.is_file() else find(data, ("testmini.json", "mathvista.json"), "data/ of MathVista's repository")
    )
    folder = path.parent
    items = []
    for number, row in read_json(path).items():
        where = f"{path}, problem {number}"
        choices = row.get("choices") or []
        if choices and row["answer"] not in choices:
            raise DataError(f"{where}: the answer {row['answer']!r} is not among the choices.")
        truth = {
            "answers": [str(row["answer"])],
            "choices": choices,
            "kind": field(row, ("answer_type",), where),
            "precision": int(row["precision"]) if row.get("precision") else None,
        }
        name = field(row, ("image",), where)
        pictures = (picture_in(folder, name.removeprefix("images/") if (folder / "image").is_dir() else name, where),)
        items.append(
            Item(
                id=str(number),
                question=str(row.get("query") or field(row, ("question",), where)),
                truth=truth,
                picture_id=name,
                pictures=pictures,
                groups=(str(row["question_type"]),) if row.get("question_type") else (),
            )
        )
    return Task(
        name="mathvista",
        title="MathVista (rule-based extraction)",
        items=items,
        scorer=_scorer("accuracy", _math_right),
        metrics=(Metric(name="accuracy", label="Accuracy", better="higher", explanation="rule-based"), WORDS),
        correct="accuracy",
        max_new_tokens=256,
        truth_text=_truth,
        notes=("Answers are extracted by rule, not by a judge: figures are not those of the leaderboard.",),
    )


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
    return Task(
        name=name,
        title=title,
        items=[_item(path, row, number, with_choices) for number, row in enumerate(read_rows(path), start=1)],
        scorer=_scorer("accuracy", judge),
        metrics=(Metric(name="accuracy", label=metric, better="higher"), WORDS),
        correct="accuracy",
        max_new_tokens=32,
        prompt=prompt,
        truth_text=_truth,
    )


def _item(path: Path, row: dict[str, Any], number: int, with_choices: bool) -> Item:
    where = f"{path}, row {number}"
    answers = field(row, ("answers", "answer"), where)
    answers = [str(a) for a in answers] if isinstance(answers, list) else [str(answers)]
    choices = [str(c) for c in field(row, ("choices", "options"), where)] if with_choices else []
    question = str(field(row, ("question",), where))
    if choices:
        if len(choices) > len(LETTERS):
            raise DataError(f"{where} has {len(choices)} choices; at most {len(LETTERS)} have letters.")
        letter = answers[0].strip().upper()
        answers = [choices[LETTERS.index(letter)]] if letter in LETTERS[: len(choices)] else answers
        if answers[0] not in choices:
            raise DataError(f"{where}: the answer {answers[0]!r} is neither a letter nor one of the choices.")
        question += "".join(f"\n{a}. {text}" for a, text in zip(LETTERS, choices, strict=False))
    name = str(field(row, ("image",), where))
    return Item(
        id=str(row.get("id", number)),
        question=question,
        truth={"answers": answers, "choices": choices},
        picture_id=name,
        pictures=(picture_in(path.parent, name, where),),
        groups=tuple(str(g) for g in row.get("groups", ())),
    )


def _scorer(name: str, judge: Callable[[Item, str], float]) -> Scorer:
    def score(item: Item, text: str) -> dict[str, Any]:
        value = judge(item, text)
        scored = rate(bool(value)) if value in (0.0, 1.0) else amount(value)
        return {name: scored, "words": amount(len(text.split()))}

    return score


def _chosen_right(item: Item, text: str) -> float:
    return float(_pick(text, item.truth["choices"]) == item.truth["answers"][0])


def _pick(text: str, choices: Sequence[str]) -> str | None:
    """The choice that an answer names by its words, or by its letter."""
    bare = final_answer(text)
    by_words = [choice for choice in choices if normal(choice) == normal(bare)]
    if by_words:
        return by_words[0]
    letter = chosen_letter(bare)
    return choices[LETTERS.index(letter)] if letter is not None and letter in LETTERS[: len(choices)] else None


def _math_right(item: Item, text: str) -> float:
    truth = item.truth["answers"][0]
    if item.truth["choices"]:
        return _chosen_right(item, text)
    if item.truth["kind"] in ("integer", "float"):
        precision = item.truth["precision"] if item.truth["kind"] == "float" else None
        return float(same_number(final_answer(text), truth, precision))
    return float(normal(final_answer(text)) == normal(truth))


def _truth(item: Item) -> str:
    return " / ".join(dict.fromkeys(item.truth["answers"]))
