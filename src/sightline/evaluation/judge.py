"""A model behind an OpenAI-compatible endpoint that is asked for verdicts: win rates, MMHal's grades, extraction."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.errors import UserError
from sightline.files import data_uri
from sightline.http import HTTPFailure, post_json
from sightline.types import Picture


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Asks a server. url: up to `/v1`. model: its name there. key_variable: environment variable that holds the key.
    seconds: for one try. patience: seconds in which a busy server is asked again."""

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    seconds: float = 60.0
    patience: float = 120.0

    def reply(self, instruction: str, text: str, pictures: Sequence[Picture] = (), *, max_tokens: int = 8) -> str:
        """What the judge says, greedy. Raises `UserError` when the server cannot be reached or refuses."""
        shown = [{"type": "image_url", "image_url": {"url": data_uri(p.open())}} for p in pictures]
        body: dict[str, Any] = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": max_tokens,
            "messages": [
                {"role": "system", "content": instruction},
                {"role": "user", "content": [*shown, {"type": "text", "text": text}]},
            ],
        }
        try:
            reply = post_json(
                f"{self.url.rstrip('/')}/chat/completions",
                body,
                key=os.environ.get(self.key_variable),
                seconds=self.seconds,
                patience=self.patience,
            )
        except HTTPFailure as error:
            raise UserError(
                f"The judge cannot be asked: {error}. Start the server, or correct --judge, --judge-model or the key "
                f"in ${self.key_variable}."
            ) from None
        return content(reply)


def content(reply: Any) -> str:
    """The text of a reply; empty where it has another form than OpenAI's."""
    match reply:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
    return ""
