"""A sequence classifier that reads prompt, image and answer; its first logit is the reward."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from PIL.Image import Image
from pydantic import Field
from pydantic.dataclasses import dataclass
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, ProcessorMixin

from sightline.config.numbers import Whole
from sightline.config.strict import STRICT
from sightline.errors import RecipeError
from sightline.models.processor import from_pretrained
from sightline.rewards.completions import Completion, text_of


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RewardModel:
    """Scores the conversation as the model's own chat template writes it."""

    model: str
    """Hub id or folder of a model that transformers loads for sequence classification, with its processor."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    device: str = "auto"
    """Where it runs; auto: the first GPU, else the CPU."""
    batch_size: Whole = Field(8, ge=1, le=65_536)
    """Answers a forward."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""

    def prepare(self, columns: Sequence[str]) -> None:
        """Raises `ModelError` and `RecipeError` for a model that cannot be loaded."""
        assert self._processor is not None and self._model is not None

    def __call__(
        self,
        /,
        completions: list[Completion],
        prompts: list[Any],
        images: Sequence[Sequence[Image]] | None = None,
        **columns: Any,
    ) -> list[float]:
        images = images if images is not None else [()] * len(prompts)
        asked = zip(prompts, completions, images, strict=True)
        texts = [self._rendered(p, c, len(shown)) for p, c, shown in asked]
        scores: list[float] = []
        for start in range(0, len(texts), self.batch_size):
            part = slice(start, start + self.batch_size)
            scores += self._scores(texts[part], [list(p) for p in images[part]])
        return scores

    def _rendered(self, prompt: Any, completion: Completion, num_images: int) -> str:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        messages = [{**m, "content": _parts(m["content"])} for m in messages]
        if not any(part["type"] == "image" for m in messages for part in m["content"]):
            messages[0]["content"] = [{"type": "image"}] * num_images + messages[0]["content"]
        answer = {"role": "assistant", "content": _parts(text_of(completion))}
        return self._processor.apply_chat_template([*messages, answer], tokenize=False)

    def _scores(self, texts: list[str], images: list[list[Image]]) -> list[float]:
        shown = images if any(images) else None
        call: dict[str, Any] = {"text": texts, "images": shown, "padding": True, "return_tensors": "pt"}
        inputs = self._processor(**call)
        with torch.inference_mode():
            logits = self._model(**inputs.to(self._model.device)).logits
        return logits[:, 0].float().tolist()

    @cached_property
    def _processor(self) -> ProcessorMixin:
        options = {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}
        with self._explained():
            config = AutoConfig.from_pretrained(self.model, **options)
        return from_pretrained(self.model, config, self.revision, self.trust_remote_code)

    @cached_property
    def _model(self) -> PreTrainedModel:
        device = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        with self._explained():
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                self.model,
                revision=self.revision or "main",
                dtype="auto",
                trust_remote_code=self.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
            )
        model, found = loaded
        if found["missing_keys"]:
            raise RecipeError(
                f"Reward `reward_model`: {self.model} has no weights for {sorted(found['missing_keys'])[0]}, which "
                "would be random. Name a model that was trained as a classifier, not the one it began from."
            )
        return model.to(device).eval().requires_grad_(False)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"Reward `reward_model`: {self.model} cannot be loaded for sequence classification: "
                f"{str(error).splitlines()[0]} Expected a folder or hub id of a classifier with its processor."
            ) from None


def _parts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else [dict(part) for part in content]
