"""The recipe: everything a run depends on, as frozen dataclasses that check themselves. Imports no torch.

Start here: `Recipe`. Training fields keep transformers' own names at the top level; the rest is grouped, a file
each.
"""

from dataclasses import field
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from sightline.config.combinations import (
    fit_complaint,
    reads_pairs,
    refuse_groups,
    refuse_pairs,
    refuse_reference,
    refuse_rounds,
    refuse_rows,
    refuse_sampler,
)
from sightline.config.custom import SamplerConfig
from sightline.config.data import DataConfig
from sightline.config.engine import Engine
from sightline.config.evaluation import EvaluationConfig
from sightline.config.figures import refuse_figures
from sightline.config.guard import GuardConfig
from sightline.config.model import LoraConfig, ModelConfig, ReferenceConfig
from sightline.config.numbers import Real, Whole
from sightline.config.objective import DPOConfig, ObjectiveConfig, SFTConfig
from sightline.config.online import RewardConfig, Rewards, TransformersSamplerConfig, VLLMSamplerConfig
from sightline.config.online_objectives import OnlineConfig
from sightline.config.pairs import PairsConfig
from sightline.config.paths import FileName, OutputName
from sightline.config.schedule import known_optimizer, known_schedule, refuse_options
from sightline.config.strict import STRICT, Options

__all__ = [
    "DPOConfig",
    "DataConfig",
    "EvaluationConfig",
    "GuardConfig",
    "LoraConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PairsConfig",
    "Recipe",
    "ReferenceConfig",
    "RewardConfig",
    "SFTConfig",
    "SamplerConfig",
    "TransformersSamplerConfig",
    "VLLMSamplerConfig",
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """A training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The model and its processor."""
    lora: LoraConfig | None = None
    """Low-rank adapters; without this group all unfrozen weights are trained."""
    data: DataConfig = field(default_factory=DataConfig)
    """The rows."""
    objective: ObjectiveConfig = field(default_factory=DPOConfig)
    """What is optimised; `type` says which."""
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    """What the policy is compared with."""
    sampler: SamplerConfig | None = None
    """Who answers the prompts of an online objective; the policy itself when left out."""
    rewards: Rewards = field(default_factory=list)
    """What judges sampled answers: names, or a map of name → weight or group."""
    pairs: PairsConfig | None = None
    """How sampled answers become preference pairs: `sightline pairs`, and pair objectives with `rewards`."""
    rounds: Whole | None = Field(default=None, ge=1, le=1000)
    """Iterative training of a pair objective: so many times pairs of the present model's answers to all prompts, then a
    run on them. Left out: with `rewards` every step samples its own pairs."""

    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Scores of answers while training."""

    output_dir: OutputName = "runs/sightline"
    """Folder of the run: recipe, model, metrics, curves, report."""
    overwrite_output_dir: bool = False
    """Empty an output folder that holds another run instead of refusing it."""
    seed: Whole = Field(default=42, ge=0, le=2**32 - 1)
    """Seed of everything random in training."""

    per_device_train_batch_size: Whole = Field(default=2, ge=1, le=65_536)
    """Groups (prompt + responses) that one forward sees at most, on each device."""
    gradient_accumulation_steps: Whole = Field(default=1, ge=1, le=1_000_000)
    """Forwards a step. A step sees this × batch size × devices groups; how it is cut changes no curve."""
    per_device_eval_batch_size: Whole | None = Field(default=None, ge=1, le=65_536)
    """The same for evaluation; the training value when left out."""
    layout: Literal["auto", "prefix", "padded"] = "auto"
    """prefix: prompt and images once a group · padded: once a response · auto: prefix where exact."""
    num_train_epochs: Real = Field(default=1.0, gt=0, le=1_000_000)
    """Passes over the data."""
    max_steps: Whole = Field(default=-1, ge=-1, le=10**9)
    """Optimizer steps; above 0 it overrides the epochs."""
    shuffle: bool = True
    """Draw rows in random order; off keeps the source's order (a curriculum)."""

    learning_rate: Real = Field(default=1e-6, ge=0, le=100)
    """Peak learning rate."""
    lr_scheduler_type: str = "linear"
    """Schedule, by transformers' names: linear, cosine, constant_with_warmup, warmup_stable_decay …"""
    lr_scheduler_kwargs: Options = field(default_factory=dict)
    """Options of the schedule, by transformers' names: `{min_lr_rate: 0.1}`, `{num_decay_steps: 200}`."""
    warmup_steps: Real = Field(default=0, ge=0, le=10**9)
    """Steps of linear warm-up; below 1 a share of all steps."""
    weight_decay: Real = Field(default=0.0, ge=0, le=100)
    """AdamW's weight decay."""
    adam_beta1: Real = Field(default=0.9, ge=0, lt=1)
    """AdamW's β1."""
    adam_beta2: Real = Field(default=0.999, ge=0, lt=1)
    """AdamW's β2."""
    adam_epsilon: Real = Field(default=1e-8, gt=0, le=1)
    """AdamW's ε."""
    max_grad_norm: Real = Field(default=1.0, ge=0, le=10**9)
    """Gradient norm above which gradients are scaled down."""
    optim: str = "adamw_torch"
    """Optimizer, by transformers' names."""

    bf16: bool | None = None
    """bfloat16 autocast; left out: on where the GPU has it, never on a CPU."""
    use_cpu: bool = False
    """Train on the CPU although a GPU is there."""
    gradient_checkpointing: bool | Literal["selective"] = False
    """Recompute activations in backward: less memory, about a third more time, the same curve. selective keeps the
    results of attention and of every other matrix product: between the two in memory and time."""
    dataloader_num_workers: Whole = Field(default=2, ge=0, le=512)
    """Processes that read rows and run the processor."""

    logging_steps: Whole = Field(default=1, ge=1, le=10**9)
    """Steps between lines of metrics."""
    eval_steps: Whole | None = Field(default=None, ge=1, le=10**9)
    """Steps between evaluations on held-out rows; left out: at the end only, where rows are held out."""
    eval_on_start: bool = False
    """Evaluate before the first step, too: where the curve begins."""
    save_steps: Whole | None = Field(default=None, ge=1, le=10**9)
    """Steps between checkpoints; left out: at the end only."""
    save_total_limit: Whole | None = Field(default=None, ge=1, le=10**6)
    """Checkpoints to keep."""
    nproc_per_node: Whole | None = Field(default=None, ge=1, le=1024)
    """Processes that `sightline train` starts on this machine; left out: one a GPU. Launchers decide for themselves."""
    engine: Engine = "auto"
    """ddp: the whole model in every process. fsdp2: weights, gradients and optimizer sharded over them. zero1, zero2,
    zero3: DeepSpeed shards the optimizer, gradients as well, weights too. auto: what `accelerate launch` was told,
    else ddp."""
    ddp_timeout: Whole = Field(default=1800, ge=1, le=10**7)
    """Seconds that processes wait for one another, at the start and in every exchange; then the run ends."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """What to do when loss, gradient or policy go wrong."""
    resume: bool | FileName = False
    """Go on from the last checkpoint of `output_dir`, or from a named one."""
    report_to: list[Literal["none", "tensorboard", "trackio", "wandb"]] = field(default_factory=list)
    """Trackers besides metrics.jsonl."""
    run_name: str | None = None
    """Name for the trackers."""

    @field_validator("lr_scheduler_type")
    @classmethod
    def _there_is_such_a_schedule(cls, given: str) -> str:
        return known_schedule(given)

    @field_validator("optim")
    @classmethod
    def _there_is_such_an_optimizer(cls, given: str) -> str:
        return known_optimizer(given)

    @field_validator("max_steps")
    @classmethod
    def _some_step_is_taken(cls, given: int) -> int:
        if given == 0:
            raise ValueError("`max_steps: 0` would train nothing. Leave it out for whole epochs, or name some steps.")
        return given

    @model_validator(mode="after")
    def _the_schedule_can_be(self) -> Any:
        refuse_options(self.lr_scheduler_type, self.lr_scheduler_kwargs, self.learning_rate, self.warmup_steps)
        if self.lr_scheduler_type == "reduce_lr_on_plateau" and self.eval_steps is None:
            raise ValueError(
                "`lr_scheduler_type: reduce_lr_on_plateau` follows the loss of held-out rows, which is computed at the "
                "end only. Give `eval_steps`, and `data.val_size` or `data.eval_source`."
            )
        return self

    @model_validator(mode="after")
    def _groups_agree(self) -> Any:
        refuse_reference(self.objective, self.reference, self.lora)
        refuse_rounds(self.objective, self.reference, self.lora, self.rounds)
        refuse_rows(self.objective, self.data, samples=self.samples_completions)
        refuse_groups(self.objective, self.sampler)
        refuse_sampler(self.model, self.lora, self.sampler)
        refuse_figures(self.objective, self.evaluation, samples=self.samples_completions)
        return self

    @model_validator(mode="after")
    def _quantised_and_adapted_weights_go_together(self) -> Any:
        complaint = fit_complaint(self.model, self.lora, self.reference)
        if self.reference.type == "precomputed" and (self.samples_completions or self.data.streaming):
            complaint = (
                "`reference.type: precomputed` needs rows and answers that are known before training; this recipe "
                f"{'streams its rows' if self.data.streaming else 'samples its answers'}. Use `reference.type: auto`."
            )
        if complaint:
            raise ValueError(complaint)
        return self

    @model_validator(mode="after")
    def _sampler_and_rewards_are_for_online_objectives(self) -> Any:
        refuse_pairs(self.objective, self.sampler, self.rewards, self.pairs)
        return self

    @property
    def samples_completions(self) -> bool:
        """Whether every step samples its own completions: for objectives over rewards, and over pairs with rewards."""
        if isinstance(self.objective, OnlineConfig):
            return True
        return bool(self.rewards) and reads_pairs(self.objective) and self.rounds is None
