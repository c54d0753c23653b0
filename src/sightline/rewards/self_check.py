"""The policy as its own judge: how sure it is of its claims when it is asked for each of them alone.

As `claims` (RLAIF-V's divide and conquer), with the mean of p(yes) as the score. It needs nothing but the model, and
can only find what asking brings to light: where the model believes its own mistakes, it confirms them.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, Literal

from pydantic.dataclasses import dataclass
from torch import nn
from transformers import ProcessorMixin

from sightline.config.strict import STRICT
from sightline.rewards.claims import QUESTION, Claims, YesAndNo, written
from sightline.rewards.completions import Completion, Images, text_of


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SelfCheck:
    """The mean probability that the policy gives to the claims of an answer; None where it makes none."""

    split: Literal["sentences", "phrases"] = "sentences"
    """How claims are found: a claim a sentence, or one for each member of a list."""
    question: str = QUESTION
    """How a claim is asked, `{claim}` standing for it."""
    answers: YesAndNo = field(default_factory=lambda: ["Yes", "No"])
    """Yes and no as the policy writes them."""

    @cached_property
    def claims(self) -> Claims:
        """The same claims, judged by the policy. Raises `ValueError` for a question without `{claim}`."""
        options: dict[str, Any] = {"split": self.split, "question": self.question, "answers": self.answers}
        return Claims(**options)

    def __post_init__(self) -> None:
        assert self.claims.url is None

    def attach(self, policy: nn.Module, processor: ProcessorMixin) -> None:
        """Judge by this policy."""
        self.claims.attach(policy, processor)

    def __call__(
        self,
        /,
        completions: list[Completion],
        images: Sequence[Images],
        log_extra: Callable[[str, list[Any]], None],
        **columns: Any,
    ) -> list[float | None]:
        claims, verdicts = self.claims.judged([text_of(one) for one in completions], images)
        log_extra("self_check", [written(*one) for one in zip(claims, verdicts, strict=True)])
        held = [[one for one in some if one is not None] for some in verdicts]
        return [sum(some) / len(some) if some else None for some in held]
