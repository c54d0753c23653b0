"""mDPO's terms as parts: the chosen answer on the corrupted image, and the anchor."""

from torch import Tensor

from sightline.config.other_objectives import MDPOConfig
from sightline.objectives.mdpo import anchor_loss, image_conditional_loss
from sightline.objectives.metrics import Metrics, averaged
from sightline.objectives.pair_parts import token_metrics_of_pairs
from sightline.objectives.pairs import num_pairs, pair_scores
from sightline.objectives.part import Part, Sample
from sightline.objectives.roles import CORRUPTED, num_of_role


def image_conditional_part(config: MDPOConfig) -> Part:
    """Averaged over pairs. The step must hold each chosen answer on its corrupted image as an auxiliary response."""

    def losses(sample: Sample) -> Tensor:
        scores = pair_scores(sample.policy, sample.reference)
        corrupted, ref_corrupted = _corrupted(sample)
        return image_conditional_loss(scores.chosen, corrupted, scores.ref_chosen, ref_corrupted, beta=config.beta)

    def metrics(sample: Sample) -> Metrics:
        corrupted, ref_corrupted = _corrupted(sample)
        return {"rewards/corrupted": averaged(config.beta * (corrupted - ref_corrupted))}

    return Part(
        weight=config.image_weight,
        per="pairs",
        losses=losses,
        count=lambda group: num_of_role(group, CORRUPTED),
        metrics=metrics,
        needs_reference=True,
        roles=frozenset({CORRUPTED}),
    )


def anchor_part(config: MDPOConfig) -> Part:
    """The chosen answers' rewards against the anchor, averaged over pairs."""

    def losses(sample: Sample) -> Tensor:
        scores = pair_scores(sample.policy, sample.reference)
        return anchor_loss(scores.chosen, scores.ref_chosen, beta=config.beta, anchor=config.anchor)

    return Part(
        weight=config.anchor_weight,
        per="pairs",
        losses=losses,
        count=num_pairs,
        metrics=token_metrics_of_pairs,
        needs_reference=True,
    )


def _corrupted(sample: Sample) -> tuple[Tensor, Tensor]:
    return sample.auxiliary[CORRUPTED].sum(), sample.ref_auxiliary[CORRUPTED].sum()
