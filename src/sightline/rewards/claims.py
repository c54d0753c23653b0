"""How much of an answer is true, claim by claim (RLAIF-V, arXiv:2405.17220, §3.2).

The answer is split into claims, each becomes a yes/no question, and a judge that sees the image is asked: a server, a
model in this process, or the policy itself. The reward is the share of claims that it holds true. What an answer leaves
out costs nothing, so that the shortest answer is the safest: balance lengths (`pairs.length_tolerance`), or add a
reward for what should be there.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from functools import cached_property
from typing import Annotated, Any, Literal

from PIL.Image import Image
from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass
from torch import nn
from transformers import ProcessorMixin

from sightline.config.model import ModelConfig
from sightline.config.numbers import Real, Whole
from sightline.config.strict import STRICT
from sightline.errors import RewardError, shown
from sightline.rewards.completions import Completion, Images, text_of
from sightline.rewards.verdicts import Questions, YesOrNo, without_repeats
from sightline.scoring import judge
from sightline.scoring.claims import Claim, claims_in, claims_written, share_held
from sightline.scoring.remembered import Remembered
from sightline.scoring.yes_no import says_yes

QUESTION = "Is this statement about the image true? Statement: {claim} Answer with yes or no."
SPLIT = (
    "You take an answer about an image apart into single claims that can be checked by looking at the image: objects, "
    "numbers, colors, positions, actions, texts. Write one claim a line, as `claim => yes/no question`, the question "
    "being one whose answer is yes if the claim holds. Leave out opinions and what cannot be seen. Write nothing else."
)
VERDICT = "You look at the image and answer the question about it with yes or no alone."
AGAIN = " Reply with one word, yes or no."
TRIES = 3
"""Times that a judge is asked before a reply of another form is given up."""


def _words(given: Any) -> Any:
    """YAML and flags read a bare yes and no as true and false."""
    words = given if isinstance(given, list) else []
    return [{True: "Yes", False: "No"}.get(one, one) if isinstance(one, bool) else one for one in words]


YesAndNo = Annotated[list[str], BeforeValidator(_words), Field(min_length=2, max_length=2)]


class Attached:
    """What a run gives a reward after it was made: the policy with its processor, and replies from before."""

    policy: tuple[nn.Module, ProcessorMixin] | None = None
    remembered: Remembered | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Claims:
    """The share of an answer's claims that a judge holds true; None where it makes none, or none could be judged."""

    url: str | None = None
    """Address of an OpenAI-compatible server up to `/v1`; left out: the judge is in this process."""
    model: str | None = None
    """The judge's name on the server, or the hub id or folder of another model; left out: the policy itself."""
    split: Literal["sentences", "phrases", "judge"] = "sentences"
    """How claims are found: a claim a sentence, one for each member of a list, or as the judge's server writes them."""
    question: str = QUESTION
    """How a claim is asked, `{claim}` standing for it, where the judge writes no question of its own."""
    answers: YesAndNo = field(default_factory=lambda: ["Yes", "No"])
    """Yes and no as the judge in this process writes them."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's key; keys never stand in recipes."""
    num_parallel: Whole = Field(8, ge=1, le=1024)
    """Requests at a time."""
    request_seconds: Real = Field(60.0, gt=0, le=10**5)
    """Seconds for one request."""
    patience: Real = Field(120.0, ge=0, le=10**5)
    """Seconds that the server may be busy or away before the run stops."""

    @model_validator(mode="after")
    def _judge_can_be_asked(self) -> "Claims":
        if self.url is not None and self.model is None:
            raise ValueError("`url` names a server, but not which of its models judges. Give `model`")
        if self.url is None and self.split == "judge":
            raise ValueError("`split: judge` has a server write the claims. Give `url` and `model`, or take sentences")
        if "{claim}" not in self.question:
            raise ValueError("`question` has no `{claim}`, so that every claim would be the same question")
        return self

    @cached_property
    def attached(self) -> Attached:
        """What the run gave."""
        return Attached()

    def attach(self, policy: nn.Module, processor: ProcessorMixin) -> None:
        """Judge by this policy where no other judge is named."""
        self.attached.policy = (policy, processor)

    def remember(self, remembered: Remembered) -> None:
        """Ask the server nothing to which this has the reply."""
        self.attached.remembered = remembered

    def prepare(self, columns: Sequence[str]) -> None:
        """Raises `RewardError` where no server answers or it refuses the key, `ModelError` for another model."""
        if self.url is not None:
            self._server.check()
        elif self.model is not None:
            assert self._other is not None

    def __call__(
        self,
        /,
        completions: list[Completion],
        images: Sequence[Images],
        log_extra: Callable[[str, list[Any]], None],
        log_metric: Callable[[str, float], None],
        **columns: Any,
    ) -> list[float | None]:
        claims, verdicts = self.judged([text_of(one) for one in completions], images)
        log_extra("claims", [written(*one) for one in zip(claims, verdicts, strict=True)])
        log_metric("claims/number", sum(map(len, claims)) / max(len(claims), 1))
        return [share_held(one) for one in verdicts]

    def judged(
        self, answers: Sequence[str], images: Sequence[Images]
    ) -> tuple[list[list[Claim]], list[list[float | None]]]:
        """Every answer's claims, and how far each holds: p(yes) of a model in this process, 0 or 1 of a server.

        Raises `RewardError` where a server gave not one verdict.
        """
        if self.url is None:
            claims = [claims_in(one, self.split, self.question) for one in answers]  # pyright: ignore[reportArgumentType]
            return claims, self._in_process(claims, images)
        pool = ThreadPoolExecutor(self.num_parallel)
        try:
            claims = list(pool.map(self._claims, answers))
            asked = [(one, shown) for some, shown in zip(claims, images, strict=True) for one in some]
            said = list(pool.map(lambda one: self._verdict(*one), asked))
        finally:
            pool.shutdown(cancel_futures=True)  # a time limit: what has not begun is not asked any more
        if said and not any(verdict is not None for verdict, _ in said):
            raise RewardError(
                f"Reward `claims`: the judge `{self.model}` gave none of {len(said)} verdicts the form yes or no; it "
                f"says {shown(said[0][1])!r}. Name a model that follows instructions, or reword `question`."
            )
        found = iter(said)
        return claims, [[next(found)[0] for _ in some] for some in claims]

    def _in_process(self, claims: list[list[Claim]], images: Sequence[Images]) -> list[list[float | None]]:
        asked = [
            Questions(images=shown.images, texts=tuple(one.question for one in some))
            for some, shown in zip(claims, images, strict=True)
        ]
        once, where = without_repeats(asked)
        found = self._model.probabilities(once)
        return [[found[which][number] for which, number in places] for places in where]

    def _claims(self, answer: str) -> list[Claim]:
        if self.split != "judge":
            return claims_in(answer, self.split, self.question)
        for attempt in range(TRIES):
            reply = self._server.reply(SPLIT, answer + "\n" * attempt, max_tokens=1024)
            if found := claims_written(reply, self.question):
                return found
        return []

    def _verdict(self, claim: Claim, images: Sequence[Image]) -> tuple[float | None, str]:
        """1 for yes, 0 for no, None for a reply that stays something else; and the reply."""
        reply = ""
        for attempt in range(TRIES):
            reply = self._server.reply(VERDICT, claim.question + AGAIN * attempt, images, max_tokens=16)
            if (held := says_yes(reply)) is not None:
                return float(held), reply
        return None, reply

    @property
    def _model(self) -> YesOrNo:
        judging = self.attached.policy if self.model is None else self._other
        if judging is None:
            raise RewardError(
                "Reward `claims` names no judge, and there is no policy that could judge itself. Give `model`, or "
                "`url` and `model`."
            )
        return YesOrNo(model=judging[0], processor=judging[1], yes=self.answers[0], no=self.answers[1])

    @cached_property
    def _other(self) -> tuple[nn.Module, ProcessorMixin] | None:
        import torch

        from sightline.models.load import load_model, load_processor

        assert self.model is not None
        config = ModelConfig(name=self.model)
        return load_model(config, "cuda" if torch.cuda.is_available() else "cpu"), load_processor(config)

    @property
    def _server(self) -> judge.Judge:
        assert self.url is not None and self.model is not None
        return judge.Judge(
            url=self.url,
            model=self.model,
            key_variable=self.key_variable,
            seconds=self.request_seconds,
            patience=self.patience,
            error=self._explained,
            remembered=self.attached.remembered,
        )

    def _explained(self, failure: str) -> RewardError:
        return RewardError(
            f"Reward `claims`: {failure}. Start the server, or correct `url`, `model` or the key in "
            f"${self.key_variable}."
        )


def written(claims: Sequence[Claim], verdicts: Sequence[float | None]) -> str:
    """Claims with their questions and verdicts as JSON, for a column of a table."""
    rows = [
        {"claim": one.text, "question": one.question, "held": held} for one, held in zip(claims, verdicts, strict=True)
    ]
    return json.dumps(rows, ensure_ascii=False)
