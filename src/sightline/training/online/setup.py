"""From a recipe to an online trainer: rewards, sampler, and where completions are kept."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from torch.utils.data import Dataset
from transformers import ProcessorMixin

from sightline.config import Recipe
from sightline.config.combinations import reads_pairs
from sightline.config.custom import CustomSamplerConfig
from sightline.config.online import SamplingConfig, TransformersSamplerConfig, VLLMSamplerConfig
from sightline.config.online_objectives import DistillConfig
from sightline.config.pairs import JudgedPairsConfig
from sightline.errors import RecipeError, SamplerError
from sightline.generation.text import CompletionText
from sightline.rewards.find import build_reward_set
from sightline.rewards.reward_set import RewardSet
from sightline.rollouts.custom import build_custom_sampler
from sightline.rollouts.prompts import PromptDataset
from sightline.rollouts.sampler import Sampler, TransformersSampler
from sightline.rollouts.vllm_server import VLLMServerSampler, wait_for
from sightline.rollouts.vllm_weights import (
    AdapterFiles,
    Endpoint,
    NCCLWeights,
    ServerWeights,
    WeightFiles,
    address_towards,
    free_port,
)
from sightline.training.online.pairs import OnlinePairTrainer
from sightline.training.online.rollouts import RolloutCollector
from sightline.training.online.trainer import OnlineTrainer

NUM_LOOKED_AT = 64
"""Rows in which a column that a reward needs is looked for before the run."""


def samples(recipe: Recipe, functions: Sequence[Callable[..., Any]] = ()) -> bool:
    """Whether steps sample their own completions. functions: rewards given in Python besides the recipe's."""
    with_functions = bool(functions) and reads_pairs(recipe.objective) and recipe.rounds is None
    return recipe.samples_completions or with_functions


def pairs_of(recipe: Recipe) -> JudgedPairsConfig:
    """How steps of a pair objective choose pairs of what they sampled. Raises `RecipeError` for other ways."""
    config = recipe.pairs or JudgedPairsConfig()  # pyright: ignore[reportCallIssue]
    if not isinstance(config, JudgedPairsConfig):
        raise RecipeError(
            f"`pairs.type: {config.type}` makes a whole set of pairs at once, which a step cannot. Give `rounds`, or "
            "make them with `sightline pairs` and this recipe, and train on its folder."
        )
    plain = JudgedPairsConfig()  # pyright: ignore[reportCallIssue]
    for name in ("prompts", "length_tolerance", "batch_size"):
        if getattr(config, name) != getattr(plain, name):
            raise RecipeError(
                f"`pairs.{name}` is for whole sets of pairs; a step samples and pairs its own few prompts. Leave it "
                "out, or give `rounds`."
            )
    return config


def sampling_of(recipe: Recipe) -> SamplingConfig:
    """The recipe's sampler, or the default."""
    return recipe.sampler or TransformersSamplerConfig()  # pyright: ignore[reportCallIssue]


def reward_set_of(recipe: Recipe, functions: Sequence[Callable[..., Any]]) -> RewardSet:
    """The recipe's rewards and those given in Python. Raises `RecipeError` when there are none, or one is not there."""
    if isinstance(recipe.objective, DistillConfig):
        if recipe.rewards or functions:
            raise RecipeError(
                "`objective.type: distill` learns from the teacher's log-probs alone, so `rewards` would do nothing. "
                "Leave them out."
            )
        return build_reward_set([])
    if not recipe.rewards and not functions:
        raise RecipeError(
            f"`objective.type: {recipe.objective.type}` needs `rewards` to judge the completions that it samples, for "
            "example `rewards: {accuracy: 1.0}`; docs/online.md lists them."
        )
    return build_reward_set(recipe.rewards, functions)


def check_sampler(recipe: Recipe, say: Callable[[str], None]) -> None:
    """Before anything is loaded: wait for a server that is to sample. Raises `SamplerError` where none can."""
    config = recipe.sampler
    if not isinstance(config, VLLMSamplerConfig):
        return
    if config.mode == "colocate":
        from sightline.rollouts.vllm_colocate import refuse_where_it_cannot_run

        refuse_where_it_cannot_run()
    elif PartialState().is_main_process:
        wait_for(Endpoint(config.url, config.server_timeout, say))


def prepare_rewards(rewards: RewardSet, prompts: PromptDataset) -> None:
    """Before anything is sampled: raises `UserError` for a reward that lacks a column, a file, a model or a server."""
    columns = prompts.columns(NUM_LOOKED_AT)
    if columns is not None:
        rewards.prepare(columns)


def online_trainer(
    recipe: Recipe,
    *,
    rewards: RewardSet,
    model: nn.Module,
    processor: ProcessorMixin,
    train_dataset: Dataset,
    report: Callable[[str], None],
    **options: Any,
) -> OnlineTrainer:
    """The trainer of an objective over sampled completions."""
    assert isinstance(train_dataset, PromptDataset)
    prepare_rewards(rewards, train_dataset)
    rewards.attach(model, processor)
    sampling = sampling_of(recipe)
    opening = train_dataset.groups.renderer.template.opening
    if opening:
        report(f"The chat template begins each completion with {opening!r}; rewards read it as part of the completion.")
    collector = RolloutCollector(
        sampler=build_sampler(sampling, recipe, model, processor, report),
        rewards=rewards,
        text_of=CompletionText.of(processor, options["family"], opening),
    )
    options |= {"collector": collector, "sampling": sampling, "prompts": train_dataset}
    options |= {"folder": Path(recipe.output_dir), "model": model, "processor": processor, "report": report}
    if options["objective"].num_responses == 0:
        return OnlineTrainer(**options)
    return OnlinePairTrainer(pairs=pairs_of(recipe), **options)


def build_sampler(
    config: SamplingConfig, recipe: Recipe, model: nn.Module, processor: ProcessorMixin, say: Callable[[str], None]
) -> Sampler:
    """The sampler that a recipe asks for. say: shows the user what it waits for."""
    if isinstance(config, TransformersSamplerConfig):
        return TransformersSampler(model, processor, batch_size=config.batch_size)
    if isinstance(config, CustomSamplerConfig):
        return build_custom_sampler(config, model, processor)
    assert isinstance(config, VLLMSamplerConfig)
    lora_rank = recipe.lora.r if recipe.lora is not None else None
    if config.mode == "colocate":
        from sightline.rollouts.vllm_colocate import VLLMColocateSampler

        return VLLMColocateSampler(model, processor, config, recipe.model, lora_rank)
    server = Endpoint(config.url, config.server_timeout, say)
    return VLLMServerSampler(model, processor, server, server_weights(config, recipe, server))


def server_weights(config: VLLMSamplerConfig, recipe: Recipe, server: Endpoint) -> ServerWeights:
    """How this run's weights get to its server."""
    folder = Path(recipe.output_dir) / "rollout-weights"
    if recipe.lora is not None:
        return AdapterFiles(server, folder)
    possible = torch.cuda.is_available() and not recipe.use_cpu and find_spec("vllm") is not None
    if config.weights == "nccl" and not possible:
        raise SamplerError(
            "`sampler.weights: nccl` needs a GPU here and vLLM in this environment, beside the server's own. Install "
            "vLLM, or use `weights: files` with an output folder that the server reads, too."
        )
    if config.weights == "nccl" or (config.weights == "auto" and possible):
        return NCCLWeights(server, address_towards(config.url), free_port())
    return WeightFiles(server, folder)
