"""Losses of single labelled responses as parts: KTO and BCO. On pairs, chosen is desirable and rejected is not."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from sightline.config.other_objectives import BCOConfig, KTOConfig
from sightline.errors import DataError
from sightline.objectives.bco import RunningRewards, bco_loss
from sightline.objectives.kto import kl_estimate, kto_loss
from sightline.objectives.labels import desirable_of_group
from sightline.objectives.metrics import Metrics, averaged, token_metrics
from sightline.objectives.part import Part, Sample, State
from sightline.objectives.roles import MISMATCHED, ORDINARY, num_of_role
from sightline.types import Group, LogProbs


def kto_part(config: KTOConfig, *, weight: float) -> Part:
    """KTO, averaged over responses; the KL estimate is one number of the whole step."""

    def losses(sample: Sample) -> Tensor:
        return kto_loss(
            sample.policy.sum(),
            _reference(sample).sum(),
            sample.desirable,
            _kl(sample),
            beta=config.beta,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        )

    def metrics(sample: Sample) -> Metrics:
        kl = _kl(sample)
        return {**_metrics(sample, config.beta), "kl": (kl, kl.new_ones(()))}

    return Part(
        weight=weight,
        per="responses",
        losses=losses,
        count=_count,
        metrics=metrics,
        needs_reference=True,
        full_batch=True,
        roles=frozenset({MISMATCHED}),
    )


def bco_part(config: BCOConfig, *, weight: float) -> Part:
    """BCO, averaged over responses; with the running shift δ as state unless the config turns it off."""

    def losses(sample: Sample) -> Tensor:
        logp = sample.policy.sum()
        return bco_loss(
            logp,
            _reference(sample).sum(),
            sample.desirable,
            beta=config.beta,
            shift=RunningRewards(**sample.state).shift.to(logp) if config.running_shift else 0.0,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        )

    plain = Part(
        weight=weight,
        per="responses",
        losses=losses,
        count=_count,
        metrics=lambda sample: _metrics(sample, config.beta),
        needs_reference=True,
    )
    return _with_running_shift(plain, config.beta) if config.running_shift else plain


def _with_running_shift(part: Part, beta: float) -> Part:
    def update_state(sample: Sample) -> State:
        reward, good = _rewards(sample, beta), sample.desirable
        return RunningRewards(**sample.state).add(reward[good], reward[~good])._asdict()

    def metrics(sample: Sample) -> Metrics:
        shift = RunningRewards(**sample.state).shift
        return {**part.metrics(sample), "rewards/shift": (shift, shift.new_ones(()))}

    return replace(
        part,
        metrics=metrics,
        initial_state=lambda: RunningRewards.empty()._asdict(),
        update_state=update_state,
        full_batch=True,
    )


def _count(group: Group) -> int:
    """Responses to judge. Raises `DataError` where nothing says whether they are desirable."""
    desirable_of_group(group)
    return num_of_role(group, ORDINARY)


def _reference(sample: Sample) -> LogProbs:
    assert sample.reference is not None, "the objective needs a reference"
    return sample.reference


def _rewards(sample: Sample, beta: float) -> Float[Tensor, " responses"]:
    return beta * (sample.policy.sum() - _reference(sample).sum())


def _kl(sample: Sample) -> Float[Tensor, ""]:
    mismatched, ref_mismatched = sample.auxiliary[MISMATCHED], sample.ref_auxiliary[MISMATCHED]
    if mismatched.num_responses == 0:
        raise DataError(
            "KTO estimates its KL divergence on answers to other prompts, and this step holds none: it has a single "
            "prompt. Raise `per_device_train_batch_size` or `gradient_accumulation_steps` to 2 or more."
        )
    return kl_estimate(mismatched.sum(), ref_mismatched.sum())


def _metrics(sample: Sample, beta: float) -> Metrics:
    """Rewards and log-probs by class. A margin of unpaired responses is the difference of the two averages."""
    policy, good, reward, logp = sample.policy, sample.desirable, _rewards(sample, beta), sample.policy.sum()
    metrics = {
        "rewards/chosen": averaged(reward, good),
        "rewards/rejected": averaged(reward, ~good),
        "logps/chosen": averaged(logp, good),
        "logps/rejected": averaged(logp, ~good),
    }
    if policy.mean_logit is not None:
        target, chosen = policy.weight > 0, good[policy.response]
        metrics["logits/chosen"] = averaged(policy.mean_logit, target & chosen)
        metrics["logits/rejected"] = averaged(policy.mean_logit, target & ~chosen)
    return metrics | token_metrics(policy, good[policy.response])
