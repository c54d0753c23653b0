"""MMHal-Bench (arXiv:2309.14525) from its `response_template.json`: 96 questions, graded 0 to 6 by a judge.

As officially the judge is told what is in the image and a good answer, grades below 3 count as hallucinations, and
there are eight types of questions. The instruction to the judge is our own, and the judge is whoever is asked: figures
of different judges or of the paper's GPT-4 are not comparable, and the task's title names the judge.
"""

import re
from pathlib import Path, PurePosixPath

from sightline.errors import RecipeError
from sightline.evaluation.task import Item, Metric, Task
from sightline.evaluation.tasks.files import field, find, image_in, read_rows
from sightline.scoring.judge import Judge
from sightline.scoring.ratio import Ratios, amount, rate

SOURCE = "MMHal-Bench's own repository"
HALLUCINATED_BELOW = 3
INSTRUCTION = (
    "You grade an assistant's answer to a question about an image that you cannot see. You are told what the image "
    "holds and what a good answer is. An answer hallucinates when it says something that contradicts these or that "
    "nothing in them supports. Grades: 6 very informative and without hallucination; 5 informative and without "
    "hallucination; 4 somewhat informative and without hallucination; 3 without hallucination but not informative; "
    "2 very informative but with hallucination; 1 informative but with hallucination; 0 neither informative nor free "
    "of hallucination. Reply with `Rating: ` and the whole number."
)
READING = re.compile(r"rating\W*([0-6])(?![\d.])", re.IGNORECASE)
ALONE = re.compile(r"\s*([0-6])\s*\.?\s*")
METRICS = (
    Metric(name="rating", label="Rating, 0 to 6", better="higher", unit="number", explanation="the judge's grade"),
    Metric(name="hal", label="Hallucination", better="lower", explanation="answers graded below 3"),
    Metric(name="unread", label="Unread", better="lower", explanation="replies of the judge without a grade"),
    Metric(name="words", label="Words", better="neither", unit="number", explanation="words an answer"),
)


def mmhal(folder: Path, judge: Judge | None) -> Task:
    """The 96 questions. Raises `RecipeError` without a judge: there is no other way to score them."""
    if judge is None:
        raise RecipeError("Task mmhal is graded by a judge: give --judge URL and --judge-model NAME.")
    path = find(folder, ("response_template.json", "mmhal.json"), SOURCE)
    items = []
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}, row {number}"
        name = PurePosixPath(str(field(row, ("image_src", "image"), where))).name
        items.append(
            Item(
                id=str(row.get("id", number - 1)),
                question=str(field(row, ("question",), where)),
                truth={
                    "content": ", ".join(map(str, field(row, ("image_content",), where))),
                    "answer": str(field(row, ("gt_answer",), where)),
                },
                image_id=name,
                images=(image_in(folder, name, where),),
                groups=(str(row["question_type"]),) if row.get("question_type") else (),
            )
        )

    def score(item: Item, answer: str) -> Ratios:
        said = judge.reply(INSTRUCTION, question_to_judge(item, answer), max_tokens=16)
        return score_of(grade(said)) | {"words": amount(len(answer.split()))}

    return Task(
        name="mmhal",
        title=f"MMHal-Bench (graded by {judge.model})",
        items=items,
        scorer=score,
        metrics=METRICS,
        correct="hal",
        max_new_tokens=256,
        at_once=8,
        truth_text=lambda item: item.truth["answer"],
        notes=(f"Graded by {judge.model} with an instruction of our own; the paper's figures are GPT-4's.",),
    )


def question_to_judge(item: Item, answer: str) -> str:
    """What the judge is shown."""
    return (
        f"The image holds: {item.truth['content']}\n\nQuestion: {item.question}\n\nGood answer: "
        f"{item.truth['answer']}\n\nAnswer to grade: {answer}"
    )


def grade(reply: str) -> int | None:
    """The grade that a reply gives; None where it gives none."""
    found = READING.findall(reply)
    if found:
        return int(found[-1])
    alone = ALONE.fullmatch(reply)
    return int(alone.group(1)) if alone else None


def score_of(graded: int | None) -> Ratios:
    """A grade's part in the scores; an answer without one counts in `unread` alone."""
    if graded is None:
        return {"unread": rate(True)}
    return {"rating": amount(graded), "hal": rate(graded < HALLUCINATED_BELOW), "unread": rate(False)}
