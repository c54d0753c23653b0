"""A model behind an OpenAI-compatible endpoint that is asked for verdicts (LLM-as-a-judge, arXiv:2306.05685)."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from sightline.errors import UserError
from sightline.files import data_uri
from sightline.http import HTTPFailure, post_json
from sightline.scoring.remembered import Remembered

REFUSED = (401, 403)


def _by_flags(failure: str) -> UserError:
    return UserError(
        f"The judge cannot be asked: {failure}. Start the server, or correct --judge, --judge-model or the key in "
        "$OPENAI_API_KEY."
    )


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Asks a server. url: up to `/v1`. model: its name there. key_variable: environment variable that holds the key.
    seconds: for one try. patience: seconds in which a busy server is asked again. error: makes a failure the user's.
    remembered: replies that need not be asked for again, and where new ones go; None keeps none.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    seconds: float = 60.0
    patience: float = 120.0
    error: Callable[[str], UserError] = _by_flags
    remembered: Remembered | None = None

    def reply(self, instruction: str, text: str, images: Sequence[Image] = (), *, max_tokens: int = 8) -> str:
        """What the judge says, greedy; empty where the reply has another form than OpenAI's.

        Raises `error` when the server cannot be reached or refuses.
        """
        shown = [{"type": "image_url", "image_url": {"url": data_uri(image)}} for image in images]
        body: dict[str, Any] = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": max_tokens,
            "messages": [
                {"role": "system", "content": instruction},
                {"role": "user", "content": [*shown, {"type": "text", "text": text}]},
            ],
        }
        key = "" if self.remembered is None else self.remembered.key(body)
        if self.remembered is not None and (known := self.remembered.get(key)) is not None:
            return known
        try:
            reply = self._ask("chat/completions", body)
        except HTTPFailure as failure:
            raise self.error(str(failure)) from None
        match reply:
            case {"choices": [{"message": {"content": str(said)}}, *_]}:
                if self.remembered is not None:
                    self.remembered.put(key, said)
                return said
        return ""

    def check(self) -> None:
        """Raises `error` where no server answers or it refuses the key."""
        try:
            self._ask("models", None)
        except HTTPFailure as failure:
            # not every server lists its models
            if failure.status in (None, *REFUSED):
                raise self.error(str(failure)) from None

    def _ask(self, path: str, body: dict[str, Any] | None) -> Any:
        key, url = os.environ.get(self.key_variable), f"{self.url.rstrip('/')}/{path}"
        return post_json(url, body, key=key, seconds=self.seconds, patience=self.patience)
