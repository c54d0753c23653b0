"""Online training: how answers are sampled, and what judges them."""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.paths import FileName
from sightline.config.refusal import default
from sightline.config.strict import STRICT, Options, none_is_a_word, one_or_several


def read_stop(given: Any) -> Any:
    """A single text as a list of it."""
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, list) and "" in texts:
        raise ValueError("An empty text in `sampler.stop` would end every completion at once. Leave it out.")
    return texts


StopTexts = Annotated[list[str], BeforeValidator(read_stop)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SamplingConfig:
    """What every sampler is asked for, by TRL's names."""

    num_generations: Whole = Field(default=8, ge=1, le=65_536)
    """Completions sampled for each prompt: the size G of a group."""
    max_completion_length: Whole = Field(default=512, ge=1, le=10**6)
    """Longest completion in tokens."""
    temperature: Real = Field(default=1.0, gt=0, le=100)
    """Sampling temperature; log-probs in training are taken at the same one."""
    top_p: Real = Field(default=1.0, gt=0, le=1)
    """Sample from the fewest tokens whose probabilities add up to this."""
    top_k: Whole = Field(default=0, ge=0, le=10**7)
    """Sample from so many most likely tokens; 0 is all."""
    min_p: Real = Field(default=0.0, ge=0, le=1)
    """Sample from tokens at least this fraction as likely as the most likely one."""
    stop: StopTexts = field(default_factory=list)
    """Texts after which a completion ends, besides the model's end token."""
    steps_per_generation: Whole = Field(default=1, ge=1, le=10**6)
    """Optimizer steps that one round of sampling is split over."""
    num_iterations: Whole = Field(default=1, ge=1, le=10**4)
    """Times that each completion is trained on (GRPO's μ)."""
    dynamic_sampling_rounds: Whole = Field(default=0, ge=0, le=10**4)
    """Rounds of further prompts drawn in place of groups whose rewards are all equal (DAPO); 0 keeps such groups."""
    completions_steps: Whole | None = Field(default=None, ge=1, le=10**9)
    """Steps between tables of completions and rewards, `OUTPUT/completions/*.parquet`; left out: none."""

    _one_or_several = field_validator("stop", mode="before")(one_or_several)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransformersSamplerConfig(SamplingConfig):
    """The policy itself samples. A prompt is read once for all its completions."""

    type: Literal["transformers"] = "transformers"
    batch_size: Whole = Field(default=256, ge=1, le=65_536)
    """Completions sampled at a time."""


ImportanceSampling = Annotated[
    Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "none"],
    BeforeValidator(none_is_a_word),
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OffPolicySamplerConfig(SamplingConfig):
    """What every sampler is asked for whose log-probs are not the trainer's own to the last digit."""

    importance_sampling: ImportanceSampling = "token_truncate"
    """Correction for the sampler's log-probs being not quite the trainer's: π_old / π_sampler, truncated at a cap or
    masked."""
    importance_sampling_cap: Real = Field(default=3.0, gt=0, le=10**6)
    """The cap."""
    max_logp_difference: Real = Field(default=0.5, gt=0, le=1000)
    """Mean difference between the sampler's log-probs and the trainer's, in nats per token, above which the run stops:
    completions then come from other weights than those that are trained."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VLLMSamplerConfig(OffPolicySamplerConfig):
    """vLLM answers, in this process or in a server that `sightline rollout-server` starts."""

    type: Literal["vllm"] = "vllm"
    mode: Literal["colocate", "server"] = "colocate"
    """colocate: in the training process, on the same device · server: elsewhere, over HTTP."""
    url: str = "http://127.0.0.1:8000"
    """Address of the server."""
    server_timeout: Real = Field(default=300.0, gt=0, le=10**6)
    """Seconds that a server may be gone before the run stops with a checkpoint."""
    weights: Literal["auto", "files", "nccl"] = "auto"
    """How all weights get to the server: as files that it reads, too, or from GPU to GPU (vLLM beside the trainer);
    auto: nccl where that is possible. An adapter travels as files."""
    gpu_memory_utilization: Real = Field(default=0.3, gt=0, le=1)
    """Share of the GPU that vLLM takes (colocate)."""
    max_model_len: Whole | None = Field(default=None, ge=1, le=10**7)
    """Longest prompt + completion that vLLM makes room for (colocate); the model's own limit when left out."""
    sleep: bool = True
    """Give vLLM's memory back while the policy is updated (colocate, on a GPU)."""
    model_impl: Literal["auto", "vllm", "transformers"] = "auto"
    """vLLM's implementation of the model, or its transformers back end (colocate)."""

    @model_validator(mode="after")
    def _refuse_options_of_the_other_mode(self) -> Any:
        for name in SERVER_ONLY if self.mode == "colocate" else COLOCATE_ONLY:
            if getattr(self, name) != default(type(self), name):
                other = "server" if self.mode == "colocate" else "colocate"
                raise ValueError(
                    f"`sampler.{name}` belongs to `mode: {other}`, but the mode is {self.mode}. "
                    + ("Leave it out." if self.mode == "colocate" else "Give it to `sightline rollout-server`.")
                )
        return self


SERVER_ONLY = ("url", "server_timeout", "weights")
COLOCATE_ONLY = ("gpu_memory_utilization", "max_model_len", "sleep", "model_impl")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RewardConfig:
    """`reward(completions, prompts, **columns) -> list[float | None]`; docs/online.md has the built-in ones."""

    name: FileName
    """Built-in name, dotted path (`package.module.function`), or `file.py:function`."""
    weight: Real = Field(default=1.0, ge=-1000, le=1000)
    """Factor in the sum of rewards; 0 logs it and changes nothing."""
    timeout: Real = Field(default=120.0, gt=0, le=10**6)
    """Seconds that one call, over all completions of a step, may take."""
    completions: Literal["as_data", "text", "messages"] = "as_data"
    """What the function gets: message lists for conversational rows and strings for others, or always one of them."""
    options: Options = field(default_factory=dict)
    """Its own options; in a recipe they stand beside `weight`."""


def read_rewards(given: Any) -> Any:
    """A name, a list of names or groups, or a map of name → weight or group, as a list of groups."""
    if isinstance(given, str):
        return [{"name": given}]
    if isinstance(given, Mapping) and "name" not in given:
        return [_with_options({"name": str(name), **_group(value)}) for name, value in given.items()]
    if isinstance(given, Mapping):
        return [_with_options(dict(given))]
    if isinstance(given, list):
        return [reward for entry in given for reward in _read_entry(entry)]
    return given


def _read_entry(entry: Any) -> list[Any]:
    return read_rewards(entry) if isinstance(entry, str | Mapping) else [entry]


def _group(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return {} if value is None or value is True else {"weight": value}


def _with_options(entry: dict[str, Any]) -> dict[str, Any]:
    """What is no field of RewardConfig is an option of the reward."""
    own = {f.name for f in fields(RewardConfig)}
    given = entry.get("options") or {}
    if not isinstance(given, Mapping):
        return entry  # the field says what is wrong with it
    options = {**given, **{key: value for key, value in entry.items() if key not in own}}
    return {**{key: value for key, value in entry.items() if key in own}, "options": options}


Rewards = Annotated[list[RewardConfig], BeforeValidator(read_rewards)]
