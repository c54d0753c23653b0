"""TRL's own loss methods, run on given log-probs: the trainer and the model are stubs, the formulas are TRL's."""

from collections import defaultdict
from types import SimpleNamespace

import torch
from accelerate import Accelerator
from torch import Tensor
from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RLOOTrainer, SFTTrainer

from sightline.types import LogProbs


def padded(log_probs: LogProbs, values: Tensor) -> Tensor:
    """[responses, longest] of a per-token value; 0 after each response."""
    lengths = torch.bincount(log_probs.response, minlength=log_probs.num_responses)
    first = lengths.cumsum(0) - lengths
    column = torch.arange(len(log_probs.response)) - first[log_probs.response]
    grid = values.new_zeros(log_probs.num_responses, int(lengths.max()))
    return grid.index_put((log_probs.response, column), values)


def fused_outputs(log_probs: LogProbs) -> SimpleNamespace:
    """What TRL's fused head returns: per-token statistics, 0 where there is no target."""
    present = padded(log_probs, torch.ones_like(log_probs.logp)).bool()
    return SimpleNamespace(
        log_probs=padded(log_probs, log_probs.logp),
        entropy=padded(log_probs, log_probs.entropy),
        mean_logits=padded(log_probs, log_probs.mean_logit),
        is_top1=padded(log_probs, log_probs.top1.to(log_probs.logp.dtype)).bool(),
        log_sum_sq_probs=padded(log_probs, log_probs.log_sum_sq),
        label_mask=present,
    )


def completion_inputs(log_probs: LogProbs) -> dict[str, Tensor]:
    """Token grids whose prompts are one token long."""
    present = padded(log_probs, torch.ones_like(log_probs.logp)).long()
    prompt = torch.zeros_like(present[:, :1])
    mask = torch.cat([prompt, present], 1)
    return {"input_ids": mask, "attention_mask": torch.cat([prompt + 1, present], 1), "completion_mask": mask}


def stub(**attributes) -> SimpleNamespace:
    """A trainer in name only."""
    model = torch.nn.Module()
    model.is_gradient_checkpointing = False
    return SimpleNamespace(
        model=model,
        accelerator=Accelerator(cpu=True),
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **attributes,
    )


def chosen_then_rejected(log_probs: LogProbs) -> LogProbs:
    """TRL's order: all chosen responses, then all rejected ones."""
    from sightline.objectives.roles import keep

    even = torch.arange(log_probs.num_responses) % 2 == 0
    first, second = keep(log_probs, even), keep(log_probs, ~even)
    names = ("logp", "weight", "entropy", "top1", "mean_logit", "log_sum_sq", "response_group")
    both = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in names}
    response = torch.cat([first.response, second.response + first.num_responses])
    return LogProbs(num_groups=log_probs.num_groups, response=response, **both)


def trl_dpo(
    policy: LogProbs, reference: LogProbs, loss_type: str | list[str], **options
) -> tuple[Tensor, dict[str, float]]:
    """Loss and metrics of `DPOTrainer._compute_loss`; the loss is differentiable in `policy.logp`."""
    loss_types = [loss_type] if isinstance(loss_type, str) else loss_type
    settings = {
        "beta": 0.1,
        "loss_weights": [1.0] * len(loss_types),
        "ld_alpha": None,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "label_smoothing": 0.0,
        "use_weighting": False,
        **options,
    }
    ours, theirs = chosen_then_rejected(policy), chosen_then_rejected(reference)
    trainer = stub(
        loss_types=loss_types,
        ref_model=lambda **inputs: fused_outputs(theirs),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05),
        **settings,
    )
    loss = DPOTrainer._compute_loss(trainer, lambda **inputs: fused_outputs(ours), completion_inputs(ours), False)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def trl_kto(
    policy: LogProbs,
    reference: LogProbs,
    mismatched: LogProbs,
    ref_mismatched: LogProbs,
    label: Tensor,
    **options,
) -> tuple[Tensor, dict[str, float]]:
    """Loss and metrics of `KTOTrainer._compute_loss`."""
    inputs = completion_inputs(policy) | {"label": label}
    inputs |= {f"KL_{name}": value for name, value in completion_inputs(mismatched).items()}

    def model(main: LogProbs, other: LogProbs):
        return lambda **given: fused_outputs(other if given["input_ids"] is inputs["KL_input_ids"] else main)

    settings = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0, "loss_type": "kto", **options}
    trainer = stub(
        calculate_KL=True,
        ref_model=model(reference, ref_mismatched),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        **settings,
    )
    trainer._compute_kl_logps = lambda used, batch: KTOTrainer._compute_kl_logps(trainer, used, batch)
    loss = KTOTrainer._compute_loss(trainer, model(policy, mismatched), inputs, False)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def trl_sft(policy: LogProbs, loss_type: str) -> tuple[Tensor, dict[str, float]]:
    """Loss and metrics of `SFTTrainer.compute_loss`."""
    inputs = completion_inputs(policy)
    trainer = stub(
        args=SimpleNamespace(loss_type=loss_type, average_tokens_across_devices=False),
        compute_loss_func=None,
        label_smoother=None,
    )
    loss = SFTTrainer.compute_loss(trainer, lambda **given: fused_outputs(policy), inputs)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def trl_grpo(
    policy: LogProbs,
    advantage: Tensor,
    *,
    old_logp: Tensor | None = None,
    ref_logp: Tensor | None = None,
    importance_weight: Tensor | None = None,
    max_completion_length: int = 16,
    **options,
) -> tuple[Tensor, dict[str, float]]:
    """Loss and metrics of `GRPOTrainer._compute_loss`; all answers are one batch."""
    settings = {
        "loss_type": "grpo",
        "importance_sampling_level": "token",
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "delta": None,
        "use_bias_correction_kl": True,
        **options,
    }
    arguments = SimpleNamespace(
        delta=settings.pop("delta"),
        use_bias_correction_kl=settings.pop("use_bias_correction_kl"),
        sapo_temperature_pos=1.0,
        sapo_temperature_neg=1.05,
        steps_per_generation=1,
    )
    outputs = fused_outputs(policy)
    trainer = stub(
        args=arguments,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=importance_weight is not None,
        vllm_importance_sampling_correction=True,
        current_gradient_accumulation_steps=1,
        max_completion_length=max_completion_length,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *given, **named: (outputs.log_probs, outputs.entropy, None),
        **settings,
    )
    mask = outputs.label_mask.long()
    inputs = {
        "prompt_ids": torch.zeros_like(mask[:, :1]),
        "prompt_mask": torch.ones_like(mask[:, :1]),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": advantage,
        "num_items_in_batch": mask.sum(),
    }
    given = {
        "old_per_token_logps": old_logp,
        "ref_per_token_logps": ref_logp,
        "importance_sampling_ratio": importance_weight,
    }
    inputs |= {name: padded(policy, value) for name, value in given.items() if value is not None}
    loss = GRPOTrainer._compute_loss(trainer, trainer.model, inputs)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def trl_rloo(policy: LogProbs, old_logp: Tensor, advantage: Tensor) -> Tensor:
    """Loss of `RLOOTrainer._compute_loss`."""
    outputs = fused_outputs(policy)
    trainer = stub(
        epsilon_low=0.2,
        epsilon_high=0.2,
        _get_per_token_logps_and_entropies=lambda *given, **named: (outputs.log_probs, outputs.entropy, None),
    )
    mask = outputs.label_mask.long()
    inputs = {
        "prompt_ids": torch.zeros_like(mask[:, :1]),
        "prompt_mask": torch.ones_like(mask[:, :1]),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": advantage,
        "old_logps": (padded(policy, old_logp) * mask).sum(1),
    }
    return RLOOTrainer._compute_loss(trainer, trainer.model, inputs)


def trl_scored(
    trainer_class: type, lengths: list[int], rewards: Tensor, num_generations: int, *, sampled=None, old=None, **options
) -> dict[str, Tensor]:
    """What `_generate_and_score_completions` of TRL's GRPO or RLOO makes of sampled answers and their rewards.

    sampled, old: token log-probs of each answer by the sampler and by the trainer, as lists of lists.
    """
    answers = [[1] * length for length in lengths]
    prompt_ids, texts = [[1]] * len(lengths), ["text"] * len(lengths)
    generated = (prompt_ids, answers, None, texts, sampled, {}, None, None)
    if trainer_class is RLOOTrainer:
        generated = (prompt_ids, answers, texts)
    old = [[0.0] * length for length in lengths] if old is None else old
    old_grid = torch.nn.utils.rnn.pad_sequence([torch.tensor(o) for o in old], True)
    trainer = stub(
        environment_factories=None,
        environments=None,
        tools=None,
        _tokenizer=SimpleNamespace(pad_token_id=0),
        eos_token_ids=[2],
        mask_truncated_completions=False,
        pad_to_multiple_of=None,
        args=SimpleNamespace(
            per_device_train_batch_size=8,
            gradient_checkpointing_kwargs=None,
            steps_per_generation=1,
            gradient_accumulation_steps=1,
            report_to=[],
        ),
        num_iterations=1,
        num_generations=num_generations,
        reward_weights=torch.ones(rewards.shape[1]),
        reward_funcs=["reward"] * rewards.shape[1],
        reward_func_names=["reward"] * rewards.shape[1],
        reward_clip_range=None,
        normalize_advantages=False,
        multi_objective_aggregation="sum_then_normalize",
        log_multimodal=False,
        use_vllm=sampled is not None,
        vllm_importance_sampling_correction=True,
        vllm_importance_sampling_clip_min=None,
        beta=0.0,
        _logs=defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list)),
        _pending_extra_logs={},
        _pending_metrics={},
        _generate=lambda prompts: generated,
        _calculate_rewards=lambda *given: rewards,
        _get_per_token_logps_and_entropies=lambda *given, **named: (old_grid, None, None),
        **options,
    )
    prompts = [{"prompt": "a question"}] * len(lengths)
    return trainer_class._generate_and_score_completions(trainer, prompts)
