"""The process in which math-verify runs: truths and answers come in as JSON lines, verdicts go out.

Run as `python -m sightline.scoring.math_worker` by `sightline.scoring.math_verifier`. It imports no torch.
"""

import json
import logging
import re
import sys
from functools import lru_cache
from typing import Any

import math_verify
from math_verify import verify


def compare(truths: list[str], answers: list[str]) -> dict[str, Any]:
    """Whether a reading of the answer is one of the truth: expressions in LaTeX without delimiters.

    same: None where no truth is mathematics. values: where they are not the same, truths and answers as numbers.
    """
    wanted, found = ([parsed(text) for text in texts] for texts in (truths, answers))
    same = any(
        verify(t, a, timeout_seconds=None, allow_set_relation_comp=True)
        for t, truth in zip(wanted, truths, strict=True)
        for a, answer in zip(found, answers, strict=True)
        if t and a and not _differ_in_brackets(truth, answer)
    )
    values = [[None if same else value_of(text) for text in texts] for texts in (truths, answers)]
    return {"same": same if any(wanted) else None, "values": values}


def _differ_in_brackets(truth: str, answer: str) -> bool:
    """Whether both are pairs in unlike brackets: sympy takes (3, 1) and [3, 1] for the same empty interval."""
    pairs = [re.fullmatch(r"([(\[])[^,()\[\]]*,[^,()\[\]]*([)\]])", text.strip()) for text in (truth, answer)]
    kinds = [pair.groups() for pair in pairs if pair is not None]
    return len(kinds) == 2 and kinds[0] != kinds[1]


@lru_cache(maxsize=256)
def parsed(latex: str) -> list[Any]:
    """math-verify's `parse` without its alarm: the parent keeps the time."""
    return math_verify.parse(f"${latex}$", parsing_timeout=None)  # pyright: ignore[reportArgumentType]


def value_of(latex: str) -> float | None:
    """The number that an expression, or the last side of an equation, comes to."""
    side = re.split(r"(?<![<>!\\])=", latex)[-1]
    for one in parsed(side)[:1]:
        try:
            return float(one)
        except (TypeError, ValueError, AttributeError, OverflowError):
            return None
    return None


def main() -> None:
    """Answer until standard input ends."""
    logging.disable(logging.WARNING)  # it warns that its own time limit is off
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(compare(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
