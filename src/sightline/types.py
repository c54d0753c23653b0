"""The types that every method here is written in: Example, Group, Batch, LogProbs, Loss.

A *row* is one record of a data set; an `Example` is a row parsed and checked; a `Group` is an example with its K
responses tokenised; a `Batch` is groups laid out as tensors; `LogProbs` is what the model says of them; a `Loss`
is what an objective makes of that. A `Prompt` is an example that is to be answered.

The user's columns (`Row`) and what we know of responses (`Columns`) never share a mapping: a data set may call its
columns anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from sightline.transfer import move_together

Denominator = Literal["tokens", "responses", "pairs", "groups"]

Row = Mapping[str, Any]
"""Columns of the user's, by name: any values, carried along and never read but by rewards and exports."""


@runtime_checkable
class AnyImage(Protocol):
    """An image that is read when it is needed, never before."""

    def open(self) -> Image.Image:
        """Decode: RGB, upright (EXIF applied). Raises `DataError` naming file and row."""
        ...


@dataclass(frozen=True, kw_only=True)
class Response:
    """One answer to a prompt.

    messages: what follows the prompt, usually one assistant message; content as a list of parts.
    weight: weight of each *message* (assistant turns 1, others 0) unless `segments` refine it.
    segments: (text, weight) pieces whose concatenation is the assistant's text; empty means all of weight 1.
    label: desirable or not, for unpaired preferences (KTO); None where it has no meaning.
    """

    messages: tuple[dict[str, Any], ...]
    segments: tuple[tuple[str, float], ...] = ()
    label: bool | None = None

    @property
    def text(self) -> str:
        """The assistant's text, all text parts of all assistant messages joined."""
        parts = (p for m in self.messages if m["role"] == "assistant" for p in m["content"])
        return "".join(p["text"] for p in parts if p["type"] == "text")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row, parsed and checked.

    id: stable name of the row, `source:row_number`.
    source: the file or data set it came from. row_number: its number there, from 0.
    prompt: messages up to where the responses begin; content always a list of parts,
        `{"type": "text", "text": …}` or `{"type": "image"}`, the i-th image part showing `images[i]`.
    responses: chosen first and rejected second for pairs; one for demonstrations; none for online prompts.
    row: every column that did not become prompt, images or responses, as it came.
    """

    id: str
    source: str
    row_number: int
    prompt: tuple[dict[str, Any], ...]
    images: tuple[AnyImage, ...] = ()
    responses: tuple[Response, ...] = ()
    row: Row = field(default_factory=dict)

    def with_system(self, text: str | None) -> "Example":
        """With this system turn where the prompt has none; None changes nothing."""
        if text is None or any(message["role"] == "system" for message in self.prompt):
            return self
        turn = {"role": "system", "content": [{"type": "text", "text": text}]}
        return replace(self, prompt=(turn, *self.prompt))


@dataclass(frozen=True)
class BadRow:
    """A row that gives no group. The trainer raises its message as a `DataError`, or counts it when `skip`."""

    id: str
    message: str
    defect: str
    skip: bool


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What is known of some responses besides their tokens, in their order; None where it is not known.

    One entry a response. label: desirable or not, of unpaired preferences. role: see `objectives.roles`; without it
    all responses are ordinary. advantage: of sampled answers.
    One entry a token of the responses, one response after the other. old_logp: log π_old in nats, of the weights that
    sampled. importance_weight: the correction for a sampler that is not quite the policy.
    """

    label: Bool[Tensor, " responses"] | None = None
    role: Int[Tensor, " responses"] | None = None
    advantage: Float[Tensor, " responses"] | None = None
    old_logp: Float[Tensor, " targets"] | None = None
    importance_weight: Float[Tensor, " targets"] | None = None

    @property
    def per_response(self) -> dict[str, Tensor]:
        """The known columns with an entry for each response."""
        return self._known("label", "role", "advantage")

    @property
    def per_token(self) -> dict[str, Tensor]:
        """The known columns with an entry for each token."""
        return self._known("old_logp", "importance_weight")

    @property
    def known(self) -> dict[str, Tensor]:
        """Both, by name; `Columns(**known)` is the same again."""
        return self.per_response | self.per_token

    def _known(self, *names: str) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def keep(self, responses: Sequence[int], lengths: Sequence[int]) -> "Columns":
        """Only these responses. lengths: tokens of every response."""
        per_response = {name: column[list(responses)] for name, column in self.per_response.items()}
        per_token = {
            name: torch.cat([column.split(list(lengths))[i] for i in responses])
            for name, column in self.per_token.items()
        }
        return Columns(**per_response, **per_token)

    def to(self, device: torch.device) -> "Columns":
        """The same on `device`."""
        return Columns(**dict(zip(self.known, move_together([*self.known.values()], device), strict=True)))

    @classmethod
    def join(cls, parts: Sequence["Columns"]) -> "Columns":
        """Those of several responses one after another: the columns that all of the parts know."""
        names = [f.name for f in fields(cls) if parts and all(getattr(part, f.name) is not None for part in parts)]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True, kw_only=True)
class Group:
    """One prompt with its K tokenised responses; it can be split off, moved and batched anew on its own.

    prompt_ids: [P] token ids of the rendered prompt, image placeholders expanded.
    responses: K tensors [C_k] of token ids; the end-of-turn token included.
    weights: K tensors [C_k], float: how much a token counts as a target; 0 is not a target.
    model_inputs: what the processor made of this prompt besides token ids (pixel values, grids, token types, …).
        only `data` and `models.families` know what is inside.
    positions: [P] or [3, P] position ids of the prompt, or None before the model's family has placed it.
    next_position: the position of every response's first token.
    block: [P] tokens with the same number ≥ 0 see each other in both directions (PaliGemma's prompt, Gemma 3's
        images); −1 is causal. None before placing.
    fed_whole: whether tokens that predict no target are fed all the same, as a router's loss is over all tokens.
    columns: what is known of the responses besides their tokens; objectives read it.
    rows: the user's columns, a mapping for each row in the group: one, or several that share their images.
    truncated: id of a row that `data.max_length` trimmed → how many of its responses.
    left_out: bad rows that a group of several rows goes without.
    companions: auxiliary groups that a method adds to this one (mDPO's corrupted image); they share its forward.
    """

    id: str
    prompt_ids: Int[Tensor, " prompt"]
    responses: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    model_inputs: dict[str, Any] = field(default_factory=dict)
    positions: Tensor | None = None
    next_position: int = 0
    block: Tensor | None = None
    fed_whole: bool = False
    columns: Columns = field(default_factory=Columns)
    rows: tuple[Row, ...] = ()
    truncated: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[BadRow, ...] = ()
    companions: tuple["Group", ...] = ()

    def __post_init__(self) -> None:
        assert len(self.responses) == len(self.weights)
        assert all(len(r) == len(w) > 0 for r, w in zip(self.responses, self.weights, strict=True))
        assert all(len(column) == len(self.responses) for column in self.columns.per_response.values())
        assert all(len(column) == sum(self.lengths) for column in self.columns.per_token.values())

    @property
    def lengths(self) -> list[int]:
        """Tokens of each response."""
        return [len(response) for response in self.responses]

    @property
    def row(self) -> Row:
        """The user's columns of a group of one row."""
        (row,) = self.rows
        return row

    @property
    def num_tokens(self) -> int:
        """Tokens of the shared-prefix row: the prompt once and every response."""
        return len(self.prompt_ids) + sum(self.lengths)

    def keep(self, response_indices: list[int]) -> "Group":
        """The same prompt with only these responses."""
        return replace(
            self,
            responses=tuple(self.responses[i] for i in response_indices),
            weights=tuple(self.weights[i] for i in response_indices),
            columns=self.columns.keep(response_indices, self.lengths),
        )


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A row that is to be answered: what samplers and rewards know of it.

    group: its token ids and model inputs, without responses; the user's columns are in its row.
    messages: content always a list of parts, the i-th image part showing `images[i]`.
    text: the messages as the chat template writes them, an image one token.
    images: not decoded yet.
    conversational: whether the row has its prompt as messages; rewards then get completions as messages, too.
    index: of the row in its data set.
    place: how many prompts the run had taken before it, which decides its random numbers; None outside a run.
    """

    group: Group
    messages: tuple[dict[str, Any], ...]
    text: str
    images: tuple[AnyImage, ...] = ()
    conversational: bool = False
    index: int = 0
    place: int | None = None

    @property
    def id(self) -> str:
        """Name of the row."""
        return self.group.id

    @property
    def row(self) -> Row:
        """The user's columns."""
        return self.group.row

    @property
    def as_given(self) -> str | list[dict[str, Any]]:
        """The prompt as the row has it, messages or a string."""
        if self.conversational:
            return [dict(message) for message in self.messages]
        return "".join(part.get("text", "") for message in self.messages for part in message["content"])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Groups laid out as a grid of tokens.

    Every row of the grid holds one or more groups (or pieces of them). For each token: which group and which segment
    it belongs to (0 = prompt, k = k-th response, −1 = padding) and its rank, the position inside prompt + own response.
    predictor[t] is the flat index (row · length + column) of the token whose hidden state predicts target[t];
    the first token of *every* response is predicted by the last prompt token.
    host: what the batch was before it was moved to a device; None where it is on the host itself.
    """

    input_ids: Int[Tensor, "rows length"]
    position_ids: Int[Tensor, "*axes rows length"] | None
    group: Int[Tensor, "rows length"]
    segment: Int[Tensor, "rows length"]
    rank: Int[Tensor, "rows length"]
    block: Int[Tensor, "rows length"]
    predictor: Int[Tensor, " targets"]
    target: Int[Tensor, " targets"]
    weight: Float[Tensor, " targets"]
    response: Int[Tensor, " targets"]
    response_group: Int[Tensor, " responses"]
    num_groups: int
    model_inputs: dict[str, Any] = field(default_factory=dict)
    host: "Batch | None" = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch with every tensor on `device`: one copy from the host, which nobody waits for."""
        if device.type == self.input_ids.device.type == "cpu":
            return self
        names = [name for name, value in vars(self).items() if isinstance(value, Tensor)]
        inputs = [name for name, value in self.model_inputs.items() if isinstance(value, Tensor)]
        given = [*(getattr(self, name) for name in names), *(self.model_inputs[name] for name in inputs)]
        moved = move_together(given, device)
        fields_there = dict(zip(names, moved, strict=False))
        inputs_there = dict(zip(inputs, moved[len(names) :], strict=True))
        return replace(self, **fields_there, model_inputs={**self.model_inputs, **inputs_there}, host=self.on_host)

    @property
    def on_host(self) -> "Batch":
        """The same batch where Python may look into it without waiting for a device."""
        if self.host is not None:
            return self.host
        return self if self.input_ids.device.type == "cpu" else self.to(torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class LogProbs:
    """What a model says of the responses of a batch, token by token.

    logp[t] is in nats; response[t] in 0…R−1; response_group[r] in 0…num_groups−1, responses of a group adjacent and in
    the group's order. weight 0 marks tokens that are not targets. Optional per token: entropy (nats), top1 (the target
    was the most likely token), mean_logit (mean over the vocabulary), log_sum_sq = log Σ p² (WPO, arXiv:2406.11827).
    router_loss: what a mixture of experts adds to any loss, its coefficient included; differentiable.
    """

    logp: Float[Tensor, " targets"]
    weight: Float[Tensor, " targets"]
    response: Int[Tensor, " targets"]
    response_group: Int[Tensor, " responses"]
    num_groups: int
    entropy: Float[Tensor, " targets"] | None = None
    top1: Bool[Tensor, " targets"] | None = None
    mean_logit: Float[Tensor, " targets"] | None = None
    log_sum_sq: Float[Tensor, " targets"] | None = None
    router_loss: Float[Tensor, ""] | None = None

    @property
    def num_responses(self) -> int:
        return len(self.response_group)

    def per_response(self, values: Float[Tensor, " targets"]) -> Float[Tensor, " responses"]:
        """Weighted sum of a per-token value over each response, in float64 (float32 on a device without it).

        A response of 64 tokens has some −640 nats, of which float32 keeps 6e-5; differences of such sums are a loss.
        """
        values = values * self.weight.to(values.dtype)
        if values.device.type != "mps":
            values = values.double()
        return values.new_zeros(self.num_responses).index_add(0, self.response, values)

    def sum(self) -> Float[Tensor, " responses"]:
        """log π(y|x) of each response: the sum over its target tokens."""
        return self.per_response(self.logp)

    @property
    def lengths(self) -> Float[Tensor, " responses"]:
        """Target tokens of each response (weights > 0 counted once each)."""
        zeros = self.logp.new_zeros(self.num_responses)
        return zeros.index_add(0, self.response, (self.weight > 0).to(self.logp.dtype))

    def mean(self) -> Float[Tensor, " responses"]:
        """Average log-prob of a target token of each response."""
        return self.sum() / self.lengths.clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A sum over what a forward saw, and what to divide it by once the whole step is known.

    value: the *sum* of the loss over this forward's tokens, responses, pairs or groups (`per` says which);
        `training.step.step` divides by the step's global count, over micro-batches and processes.
    metrics: name → (sum, count): averaged likewise.
    """

    value: Float[Tensor, ""]
    per: Denominator
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
