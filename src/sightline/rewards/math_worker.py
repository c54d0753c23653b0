"""The process in which math-verify runs: pairs of truth and answer come in as JSON lines, verdicts go out.

Run as `python -m sightline.rewards.math_worker` by `sightline.rewards.math_verifier`. It imports no torch.
"""

import json
import logging
import sys
from typing import Any

import math_verify
from math_verify import ExprExtractionConfig, LatexExtractionConfig, verify


def is_correct(truth: str, answer: str) -> bool | None:
    """Whether both are the same mathematics; None where the truth is none."""
    wanted = parse(truth) or parse(f"${truth}$")
    if not wanted:
        return None
    targets = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    found = parse(answer, extraction_config=targets, extraction_mode="first_match")
    return bool(verify(wanted, found, timeout_seconds=None))


def parse(text: str, **options: Any) -> list[Any]:
    """math-verify's `parse` without its alarm: the parent keeps the time."""
    return math_verify.parse(text, parsing_timeout=None, **options)  # pyright: ignore[reportArgumentType]


def main() -> None:
    """Answer until standard input ends."""
    logging.disable(logging.WARNING)  # it warns that its own time limit is off
    print("ready", flush=True)
    for line in sys.stdin:
        truth, answer = json.loads(line)
        print(json.dumps(is_correct(truth, answer)), flush=True)


if __name__ == "__main__":
    main()
