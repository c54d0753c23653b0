"""vLLM in a server (`sightline rollout-server`), asked over HTTP; weights are pushed to it after every update.

A server that is away is asked again with growing pauses, and gets its weights again if it was started anew meanwhile.
"""

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import ProcessorMixin

from sightline.errors import SamplerError
from sightline.files import data_uri
from sightline.generation.decoder import special_tokens
from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.http import HTTPFailure, NoAddress
from sightline.models.families.find import family_of
from sightline.rollouts.sampler import seeds_of
from sightline.rollouts.server_key import VARIABLE
from sightline.rollouts.vllm_model import check_same_prompt, sampling_parameters
from sightline.rollouts.vllm_weights import BASE_MODEL, Endpoint, ServerWeights
from sightline.types import Prompt

NOT_FOUND = 404
UNAUTHORISED = 401
T = TypeVar("T")

REQUESTS_AT_ONCE = 64
"""Prompts that wait for an answer at a time; the server batches them."""


class VLLMServerSampler:
    """Samples from a vLLM server. weights: how the policy's weights travel to it."""

    exact = False

    def __init__(self, model: nn.Module, processor: ProcessorMixin, server: Endpoint, weights: ServerWeights) -> None:
        self.server, self.weights = server, weights
        self.tokens = special_tokens(processor, family_of(model))
        # the same in all processes, and another one for every start of a run: nobody else's weights have it
        named = [secrets.token_hex(4)]
        broadcast_object_list(named)
        self.run, self.num_syncs = named[0], 0

    @property
    def version(self) -> str:
        """What the policy's present weights are called on the server."""
        return f"policy-{self.run}-{self.num_syncs}"

    def sync(self, policy: nn.Module) -> None:
        """Push the policy's weights; the first process does, the others wait. Raises `SamplerError`."""
        self.num_syncs += 1
        processes = PartialState()
        try:
            if processes.is_main_process:
                told(self.server, partial(self.weights.push, policy, self.version))
        finally:
            processes.wait_for_everyone()

    def sample(
        self, prompts: Sequence[Prompt], num_responses: int, settings: SamplingSettings, seed: int
    ) -> list[list[Sampled]]:
        """See `Sampler.sample`. Raises `SamplerError` for a server that stays away, or has other weights or prompts."""
        answers = self._ask_all(prompts, num_responses, settings, seed)
        if answers is None:
            # it was started anew and has the base model's weights
            told(self.server, partial(self.weights.push_again, self.version))
            answers = self._ask_all(prompts, num_responses, settings, seed)
        if answers is None:
            raise SamplerError(
                f"{self.server.url} answers with other weights than this run's ({self.version}): somebody else pushes "
                "to the same server. Start one server for each run."
            )
        return answers

    def close(self) -> None:
        """Delete the files that weights travelled in; the server goes on."""
        if PartialState().is_main_process:
            self.weights.close()

    def _ask_all(
        self, prompts: Sequence[Prompt], num_responses: int, settings: SamplingSettings, seed: int
    ) -> list[list[Sampled]] | None:
        """The answers; None where the server has not, or no longer, the present weights."""
        requests = [
            self._request(prompt, num_responses, settings, own)
            for prompt, own in zip(prompts, seeds_of(prompts, num_responses, seed), strict=True)
        ]
        try:
            with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
                found = list(pool.map(partial(self.server.post, "/v1/chat/completions"), requests))
        except HTTPFailure as error:
            if error.status == NOT_FOUND:
                return None
            raise explained(self.server, error) from None
        if not told(self.server, partial(self.weights.are_there, self.version)):
            return None
        for prompt, answer in zip(prompts, found, strict=True):
            check_same_prompt(prompt, answer["prompt_token_ids"])
        return [[_sampled(choice) for choice in sorted(a["choices"], key=lambda c: c["index"])] for a in found]

    def _request(self, prompt: Prompt, num_responses: int, settings: SamplingSettings, seed: int) -> dict[str, Any]:
        shared = sampling_parameters(settings, self.tokens.ends, self.tokens.banned)
        return {
            "model": self.weights.model_name(self.version),
            "messages": messages(prompt),
            "n": num_responses,
            "max_completion_tokens": settings.max_new_tokens,
            "seed": seed,
            "logprobs": True,
            "return_token_ids": True,
            **shared,
        }


def wait_for(server: Endpoint) -> None:
    """Return once the server answers. Raises `SamplerError` for one that stays away or is no rollout server."""
    said = told(server, partial(server.get, "/v1/models"))
    served = [model["id"] for model in said["data"]] if isinstance(said, dict) and "data" in said else None
    if served is None or BASE_MODEL not in served:
        raise SamplerError(
            f"{server.url} is no rollout server: it {'serves ' + ', '.join(served) if served else 'lists no models'}. "
            "Start one with `sightline rollout-server` and this recipe, or correct `sampler.url`."
        )


def told(server: Endpoint, ask: Callable[[], T]) -> T:
    """What the server says to `ask`. Raises `SamplerError` for its failures."""
    try:
        return ask()
    except HTTPFailure as error:
        raise explained(server, error) from None


def explained(server: Endpoint, error: HTTPFailure) -> SamplerError:
    """A failure of the server's as one of the user's."""
    if isinstance(error, NoAddress):
        return SamplerError(f"`sampler.url` cannot be: {error}.")
    if error.status == UNAUTHORISED:
        return SamplerError(
            f"The rollout server refuses: {error}. Set ${VARIABLE} here to what it is where it was started."
        )
    waited = "" if error.status else f" It was asked again for {server.patience:g} s (`sampler.server_timeout`)."
    return SamplerError(
        f"The rollout server failed: {error}.{waited} Start it with `sightline rollout-server` and this recipe, or "
        "correct `sampler.url`."
    )


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The prompt as an OpenAI-compatible server wants it: every image a data URL in its place."""
    images = iter(prompt.images)
    written = []
    for turn in prompt.messages:
        parts = [
            {"type": "image_url", "image_url": {"url": data_uri(next(images).open())}}
            if part["type"] == "image"
            else {"type": "text", "text": part["text"]}
            for part in turn["content"]
        ]
        written.append({"role": turn["role"], "content": parts})
    return written


def _sampled(choice: dict[str, Any]) -> Sampled:
    log_probs = [token["logprob"] for token in choice["logprobs"]["content"]]
    return Sampled(
        ids=torch.tensor(choice["token_ids"]),
        log_probs=torch.tensor(log_probs),
        finished=choice["finish_reason"] == "stop",
    )
