"""`Example` → `Group`: the model's own chat template and processor, once a group.

Prompt and responses are tokenised apart: the prompt exactly as in generation, a response as it reads after the prompt.
A response ends with the end-of-turn token, which is a target. Truncation trims responses only; images are never cut.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import ProcessorMixin

from sightline.config.data import DataConfig
from sightline.data.defects import RowError
from sightline.data.formats.content import Message
from sightline.data.render.template import PROBE, ChatTemplate, Piece, control_tokens, template_of
from sightline.errors import ModelError, RecipeError, shown
from sightline.types import Columns, Example, Group, Response

NOT_FOR_THE_MODEL = ("input_ids", "attention_mask", "labels")
"""What a processor returns besides a prompt's model inputs; the ids travel in `Group.prompt_ids`."""


class Renderer:
    """Renders examples for one processor.

    max_length: longest prompt + response in tokens, None for no limit. on_overlong: truncate trims the response;
    error and skip both raise (`GroupDataset` tells them apart). allow_tokens: special tokens that texts may hold.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        max_length: int | None = None,
        on_overlong: Literal["error", "skip", "truncate"] = "error",
        allow_tokens: Sequence[str] = (),
    ) -> None:
        self.processor, self.max_length, self.on_overlong = processor, max_length, on_overlong
        self.tokenizer = processor.tokenizer
        self.template = template_of(processor)
        self.allow_tokens = tuple(allow_tokens)
        _refuse_impossible(self.allow_tokens, self.tokenizer, self.template.own_tokens)
        self.control = control_tokens(processor, self.allow_tokens)
        _refuse_appended_tokens(self.tokenizer)

    @property
    def end_of_turn_id(self) -> int:
        """The token that ends every response; generation stops at it."""
        return self._ids(self.template.end_of_turn)[-1]

    @property
    def image_token_ids(self) -> frozenset[int]:
        """Tokens that stand for images in `Group.prompt_ids`."""
        names = {self.template.image_mark, getattr(self.processor, "image_token", self.template.image_mark)}
        return frozenset(self.tokenizer.convert_tokens_to_ids(sorted(names)))

    @property
    def fingerprint(self) -> str:
        """Changes with everything that decides how a row is tokenised."""
        return sha256(f"{self.fingerprint_without_template} {self.templates}".encode()).hexdigest()

    @property
    def templates(self) -> tuple[Any, Any]:
        """The chat templates of processor and tokenizer."""
        return self.processor.chat_template, self.tokenizer.chat_template

    @property
    def fingerprint_without_template(self) -> str:
        """Changes with vocabulary, image processor, options and limits."""
        tokenizer = self.tokenizer
        vocabulary = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else str(sorted(tokenizer.get_vocab()))
        options = {
            name: value
            for name, value in vars(self.processor).items()
            if isinstance(value, str | int | float | bool | None) and name != "chat_template"
        }
        limits = (
            self.max_length,
            self.on_overlong,
            self.allow_tokens,
            transformers.__version__,
            type(self.processor).__name__,
        )
        parts = (vocabulary, options, self.processor.image_processor.to_json_string(), limits)
        return sha256(repr(parts).encode()).hexdigest()

    def prompt(self, example: Example) -> Group:
        """The prompt alone, for generation. Raises `RowError`."""
        text = self._prompt_text(example)
        return self._group(example, text, (), ())

    def group(self, example: Example) -> Group:
        """Prompt and every response, trimmed ones counted in `truncated`. Raises `RowError`."""
        where = _where(example)
        text = self._prompt_text(example)
        # The context decides how a response's first characters are tokenised: " Yes" alone may be another token.
        context = text[_last_end(self.template.markup, text) :]
        responses, weights = [], []
        for response in example.responses:
            self._refuse_control_tokens(response.messages, where)
            pieces = self.template.response(text, example.prompt, response.messages, where)
            ids, token_weights = self._tokenise(context, _with_segments(pieces, response, where))
            responses.append(ids)
            weights.append(token_weights)
        if len(responses) == 2 and torch.equal(*responses):
            what = f"both sides are the same {len(responses[0])} tokens once they are rendered"
            raise RowError("chosen equals rejected", where, what)
        return self._group(example, text, tuple(responses), tuple(weights))

    def _prompt_text(self, example: Example) -> str:
        where = _where(example)
        self._refuse_control_tokens(example.prompt, where)
        text = self.template.prompt(example.prompt, where)
        shown = text.count(self.template.image_mark)
        if shown != len(example.images):
            what = f"the chat template shows {shown} image(s) of the prompt's {len(example.images)}"
            raise RowError("images differ from placeholders", where, what)
        return text

    def _group(self, example: Example, text: str, responses: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> Group:
        inputs = self._process(text, example)
        prompt_ids = inputs["input_ids"][0]
        responses, weights, num_truncated = self._fit(len(prompt_ids), responses, weights, _where(example))
        return Group(
            id=example.id,
            prompt_ids=prompt_ids,
            responses=responses,
            weights=weights,
            model_inputs={k: v for k, v in inputs.items() if k not in NOT_FOR_THE_MODEL},
            columns=labels_of(example),
            rows=(example.row,),
            truncated={example.id: num_truncated} if num_truncated else {},
        )

    def _process(self, text: str, example: Example) -> dict[str, Any]:
        """The processor's output for one prompt, [1, P] ids and whatever the model needs of the images."""
        images = [image.open() for image in example.images]
        call: dict[str, Any] = {"text": [text], "images": [images] if images else None, "return_tensors": "pt"}
        if isinstance(self.template, ChatTemplate):
            bos = self.tokenizer.bos_token
            call["add_special_tokens"] = not (bos and text.startswith(bos))
        try:
            return dict(self.processor(**call))
        except (MemoryError, OSError):
            raise
        except Exception as error:
            what = f"the processor says: {shown(error, 300) or type(error).__name__}"
            raise RowError("processor refuses the row", _where(example), what) from error

    def _fit(
        self, num_prompt: int, responses: tuple[Tensor, ...], weights: tuple[Tensor, ...], where: str
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], int]:
        """Responses and weights that `max_length` leaves room for, and how many were trimmed."""
        longest = num_prompt + max((len(r) for r in responses), default=0)
        if self.max_length is None or longest <= self.max_length:
            return responses, weights, 0
        room = self.max_length - num_prompt
        if self.on_overlong != "truncate" or room < 1:
            what = (
                f"prompt + response has {longest} tokens ({num_prompt} of them prompt), the limit is {self.max_length}"
            )
            if self.on_overlong == "truncate":
                what += "; trimming the response leaves none of it"
            raise RowError("overlong", where, what)
        trimmed = tuple(r[:room] for r in responses)
        kept = tuple(w[:room] for w in weights)
        if any(w.sum() == 0 for w in kept):
            what = f"the {self.max_length} tokens of max_length leave no target of a response"
            raise RowError("overlong", where, what)
        if len(trimmed) == 2 and torch.equal(*trimmed):
            what = f"cut to {self.max_length} tokens, both responses read the same"
            raise RowError("overlong", where, what)
        return trimmed, kept, sum(len(r) > room for r in responses)

    def _refuse_control_tokens(self, messages: tuple[Message, ...], where: str) -> None:
        for message in messages:
            # Parts are joined as templates join them: a token could be split over two of them.
            text = "".join(p["text"] if p["type"] == "text" else "\0" for p in message["content"])
            found = self.control.search(text)
            if found:
                what = f"the {message['role']}'s text holds {found.group()!r}, which the model reads as one token"
                raise RowError("control token in text", where, what)

    def _tokenise(self, context: str, pieces: list[Piece]) -> tuple[Tensor, Tensor]:
        """Ids [C] and weights [C] of a response that follows `context`."""
        text = "".join(piece.text for piece in pieces)
        weight = pieces[0].weight
        if all(piece.weight == weight for piece in pieces):
            ids = torch.tensor(self._ids_after(context, text))
            return ids, torch.full(ids.shape, weight)
        if not self.tokenizer.is_fast:
            raise ModelError(
                "Weighted segments and conversations of several turns need a fast tokenizer (tokenizer.json)."
            )
        of_character = np.concatenate([np.full(len(p.text), p.weight, dtype=np.float32) for p in pieces])
        encoded = self.tokenizer(context + text, add_special_tokens=False, return_offsets_mapping=True)
        skipped, offset = len(self._ids(context)), len(context)
        if encoded["input_ids"][:skipped] != self._ids(context):
            encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            skipped = offset = 0
        spans = [(start - offset, end - offset) for start, end in encoded["offset_mapping"][skipped:]]
        # A token that spans two pieces counts as the weightier one.
        weights = [float(of_character[start : max(end, start + 1)].max()) for start, end in spans]
        return torch.tensor(encoded["input_ids"][skipped:]), torch.tensor(weights)

    def _ids_after(self, context: str, text: str) -> list[int]:
        """Ids of `text` as it reads after `context`, or after a line break where it would merge with the context."""
        for before in (context, "\n"):
            head, joined = self._ids(before), self._ids(before + text)
            if joined[: len(head)] == head:
                return joined[len(head) :]
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def labels_of(example: Example) -> Columns:
    """Which responses are desirable, where the row says so of each."""
    labels = [response.label for response in example.responses if response.label is not None]
    return Columns(label=torch.tensor(labels)) if labels and len(labels) == len(example.responses) else Columns()


def renderer_of(processor: ProcessorMixin, config: DataConfig) -> Renderer:
    """The renderer that a recipe's data asks for. Raises `RecipeError`, `ModelError`."""
    return Renderer(processor, config.max_length, config.on_overlong, config.allow_tokens)


def _where(example: Example) -> str:
    return f"{example.source}, row {example.row_number}"


def _last_end(pattern: Any, text: str) -> int:
    """Where the last match ends; 0 without one."""
    return max((match.end() for match in pattern.finditer(text)), default=0)


def _with_segments(pieces: list[Piece], response: Response, where: str) -> list[Piece]:
    """The pieces of a single assistant turn with the weights of its segments; template text weighs 1."""
    if not response.segments:
        return pieces
    spoken = "".join(text for text, _ in response.segments)
    start = pieces[0].text.find(spoken)
    if len(pieces) != 1 or start < 0:
        raise RowError(
            "template changes the text", where, "the weighted segments are not found in the rendered response"
        )
    before, after = pieces[0].text[:start], pieces[0].text[start + len(spoken) :]
    return [Piece(before, 1.0), *(Piece(*segment) for segment in response.segments), Piece(after, 1.0)]


def _refuse_impossible(allowed: Sequence[str], tokenizer: Any, own: frozenset[str]) -> None:
    """Raise `RecipeError` for tokens that no text may hold, and for what is no token of this model."""
    vocabulary = tokenizer.get_vocab() if allowed else {}
    for token in allowed:
        if token in own:
            raise RecipeError(
                f"data.allow_tokens: {token!r} begins or ends turns or stands for images in this model's template; "
                "no text may hold it. Leave it out."
            )
        if token not in vocabulary:
            raise RecipeError(f"data.allow_tokens: {token!r} is no token of this model, so a text may hold it anyway.")


def _refuse_appended_tokens(tokenizer: Any) -> None:
    """A tokenizer that ends every text with a token would end prompts with it."""
    bare = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    if tokenizer(PROBE)["input_ids"][-len(bare) :] != bare:
        raise ModelError(
            "The tokenizer appends a token to every text, prompts included. Set add_eos_token to false in it."
        )
