"""A model behind an OpenAI-compatible endpoint that looks at the image and grades the answer (LLM-as-a-judge,
arXiv:2306.05685, single-answer grading)."""

import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from PIL.Image import Image
from pydantic import Field
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.strict import STRICT
from sightline.errors import RewardError
from sightline.rewards.completions import Completion, question_of, text_of
from sightline.scoring import judge
from sightline.scoring.remembered import Remembered

INSTRUCTION = (
    "You grade an assistant's answer to a question about the image. Judge whether what it says is correct, whether "
    "it is in the image, and whether it answers the question. Reply with the grade alone, a whole number from "
    "{lowest} (useless or wrong) to {highest} (perfect)."
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Judge:
    """The judge's grade, between 0 (lowest) and 1 (highest); None where it gave no number."""

    url: str
    """Address up to `/v1`, for example `http://127.0.0.1:8000/v1`."""
    model: str
    """The judge's name there."""
    instruction: str = INSTRUCTION
    """What the judge is told; `{lowest}` and `{highest}` are filled in."""
    lowest: Whole = Field(0, ge=-(10**6), le=10**6)
    """The worst grade."""
    highest: Whole = Field(10, ge=-(10**6), le=10**6)
    """The best grade."""
    column: str | None = None
    """Column of a reference answer to show to the judge."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; keys never stand in recipes."""
    send_images: bool = True
    """Show the images to the judge."""
    num_parallel: Whole = Field(8, ge=1, le=1024)
    """Requests at a time."""
    request_seconds: Real = Field(60.0, gt=0, le=10**5)
    """Seconds for one request."""
    patience: Real = Field(30.0, ge=0, le=10**5)
    """Seconds that the server may be busy or away before the run stops."""

    @cached_property
    def replies(self) -> list[Remembered]:
        """Replies from before, if the run keeps them."""
        return []

    def remember(self, remembered: Remembered) -> None:
        """Ask the server nothing to which this has the reply."""
        self.replies[:] = [remembered]

    def prepare(self, columns: Sequence[str]) -> None:
        """Raises `RewardError` without the column, or where no server answers or it refuses the key."""
        self._refuse_missing(columns)
        self._server.check()

    def __call__(
        self,
        /,
        completions: list[Completion],
        prompts: list[Any],
        images: Sequence[Sequence[Image]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        self._refuse_missing(columns)
        references = columns[self.column] if self.column else [None] * len(prompts)
        images = images if images is not None and self.send_images else [()] * len(prompts)
        asked = list(zip(prompts, completions, references, images, strict=True))
        with ThreadPoolExecutor(self.num_parallel) as pool:
            return list(pool.map(lambda one: self._grade(*one), asked))

    def _grade(self, prompt: Any, completion: Completion, reference: Any, images: Sequence[Image]) -> float | None:
        text = f"Question:\n{question_of(prompt)}\n\nAnswer:\n{text_of(completion)}"
        if reference is not None:
            text += f"\n\nReference answer:\n{reference}"
        instruction = self.instruction.format(lowest=self.lowest, highest=self.highest)
        found = NUMBER.search(self._server.reply(instruction, text, images, max_tokens=16))
        if found is None:
            return None
        grade = (float(found.group()) - self.lowest) / (self.highest - self.lowest)
        return min(max(grade, 0.0), 1.0)

    def _refuse_missing(self, columns: Collection[str]) -> None:
        if self.column is not None and self.column not in columns:
            raise RewardError(
                f"Reward `judge`: the rows have no column `{self.column}` with a reference answer. They have "
                f"{', '.join(columns) or 'no other columns'}."
            )

    @property
    def _server(self) -> judge.Judge:
        return judge.Judge(
            url=self.url,
            model=self.model,
            key_variable=self.key_variable,
            seconds=self.request_seconds,
            patience=self.patience,
            error=self._explained,
            remembered=next(iter(self.replies), None),
        )

    def _explained(self, failure: str) -> RewardError:
        return RewardError(
            f"Reward `judge`: {failure}. Start the server, or correct `url`, `model` or the key in "
            f"${self.key_variable}."
        )
