"""Which of two answers is better, by a judge behind an OpenAI-compatible endpoint (arXiv:2306.05685, pairwise).

Every pair is asked in both orders. Only a verdict that survives the swap counts as a win; one that flips with the order
is a tie, and how often verdicts survive is reported as position consistency. Left out: grades of single answers, which
are the reward `judge`.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

from sightline.evaluation.record import Record
from sightline.evaluation.statistics import ratio_interval
from sightline.evaluation.task import Item, Task
from sightline.scoring.interval import Interval
from sightline.scoring.judge import Judge

Verdict = Literal["first", "second", "tie"]
Outcome = Literal["a", "b", "tie", "flipped", "equal"]
Ask = Callable[[Item, str, str], Verdict | None]
"""(item, first answer, second answer) → the better one; None where the judge's reply says nothing of the kind."""

INSTRUCTION = (
    "Two assistants answered a question about the image. Which answer is better: right, without anything that is not "
    "in the image, and to the point? The order means nothing. Reply with one word: first, second or tie."
)
READING = re.compile(r"\b(first|second|tie)\b", re.IGNORECASE)


class WinRate(NamedTuple):
    """b against a. win_rate: wins of b and half the ties, of all pairs with a verdict.

    consistency: of the pairs that the judge was asked about, those whose verdict survives the swap; None where it was
    asked about none. equal: pairs of equal answers, ties without asking. unread: pairs with a reply that was no
    verdict; they are left out.
    """

    win_rate: Interval
    consistency: Interval | None
    wins: int
    losses: int
    ties: int
    equal: int
    unread: int

    def as_json(self) -> dict[str, Any]:
        """Plain dicts; percent."""
        kept = None if self.consistency is None else self.consistency._asdict()
        return {**self._asdict(), "win_rate": self.win_rate._asdict(), "consistency": kept}


def win_rate(
    task: Task,
    a: Sequence[Record],
    b: Sequence[Record],
    ask: Ask,
    *,
    num_parallel: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> WinRate:
    """Ask about every item that both answered, in both orders. Equal answers are ties without asking."""
    of_b = {r.id: r for r in b}
    items = {item.id: item for item in task.items}
    pairs = [(items[r.id], r, of_b[r.id]) for r in a if r.id in of_b and r.id in items]
    with ThreadPoolExecutor(num_parallel) as pool:
        verdicts = []
        for verdict in pool.map(lambda pair: _both_orders(ask, *pair), pairs):
            verdicts.append(verdict)
            if progress is not None:
                progress(len(verdicts), len(pairs))
    read = [(pair, v) for pair, v in zip(pairs, verdicts, strict=True) if v is not None]
    points = [{"b": 1.0, "a": 0.0}.get(v, 0.5) for _, v in read]
    images = [item.image_id for (item, _, _), _ in read]
    asked = [(item.image_id, v != "flipped") for (item, _, _), v in read if v != "equal"]
    return WinRate(
        win_rate=ratio_interval(points, [1.0] * len(points), images).percent(),
        consistency=ratio_interval([kept for _, kept in asked], [1.0] * len(asked), [p for p, _ in asked]).percent()
        if asked
        else None,
        wins=sum(v == "b" for _, v in read),
        losses=sum(v == "a" for _, v in read),
        ties=sum(v in ("tie", "flipped", "equal") for _, v in read),
        equal=sum(v == "equal" for _, v in read),
        unread=len(pairs) - len(read),
    )


def _both_orders(ask: Ask, item: Item, a: Record, b: Record) -> Outcome | None:
    if a.answer == b.answer:
        return "equal"
    forward, backward = ask(item, a.answer, b.answer), ask(item, b.answer, a.answer)
    if forward is None or backward is None:
        return None
    match forward, backward:
        case "first", "second":
            return "a"
        case "second", "first":
            return "b"
        case "tie", "tie":
            return "tie"
    return "flipped"


def pair_judge(judge: Judge) -> Ask:
    """The judge's verdicts on two answers. They raise `UserError` when the server cannot be reached or refuses."""

    def ask(item: Item, first: str, second: str) -> Verdict | None:
        text = f"Question:\n{item.question}\n\nFirst answer:\n{first}\n\nSecond answer:\n{second}"
        found = READING.findall(judge.reply(INSTRUCTION, text, [image.open() for image in item.images]))
        return found[-1].lower() if found else None

    return ask
