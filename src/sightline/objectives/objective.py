"""From a recipe's `objective` to a function of log-probs: a weighted sum of parts, each divided by its own count.

    loss = Σ_part weights[part] · Σ losses[part].value / Σ counts(groups)[part],   sums over the whole step

so that no cut of a step into forwards or processes changes it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sightline.config.custom import CustomTokenConfig
from sightline.config.objective import AnyPartConfig, MixConfig, MPOConfig, ObjectiveConfig
from sightline.config.online_objectives import OnlineConfig, SurrogateConfig
from sightline.config.other_objectives import (
    BCOConfig,
    CPOConfig,
    DFTConfig,
    KTOConfig,
    MDPOConfig,
    ORPOConfig,
    SFTConfig,
)
from sightline.config.pair_objectives import BCOPairConfig, DPOConfig, PairConfig
from sightline.objectives.custom import custom_loss
from sightline.objectives.dft import dft_loss
from sightline.objectives.image_parts import anchor_part, image_conditional_part
from sightline.objectives.labels import desirable
from sightline.objectives.metrics import Metrics
from sightline.objectives.online_parts import Advantages, advantages_of, online_part
from sightline.objectives.pair_parts import pair_part, rpo_part, shifted_bco_pair_part
from sightline.objectives.part import Part, Sample, State
from sightline.objectives.roles import ORDINARY, of_role
from sightline.objectives.sft import sft_loss
from sightline.objectives.token_parts import token_part
from sightline.objectives.unpaired_parts import bco_part, kto_part
from sightline.types import Columns, Group, LogProbs, Loss

DEMONSTRATIONS = (SFTConfig, DFTConfig, CustomTokenConfig)
UNPAIRED = (KTOConfig, BCOConfig)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is optimised.

    num_responses: responses a row must have: 2 for pairs, 1 for demonstrations, 0 where completions are sampled;
        None for single labelled responses or pairs.
    advantages: of a whole step's completions (`online_parts.advantages_of`); None where none are sampled.
    kl_in_reward: β where `advantages` takes the KL divergence off the rewards; above 0 it needs log π/π_ref.
    """

    parts: dict[str, Part]
    num_responses: int | None
    advantages: Advantages | None = None
    kl_in_reward: float = 0.0

    @property
    def weights(self) -> dict[str, float]:
        """What each part's loss is multiplied by."""
        return {name: part.weight for name, part in self.parts.items()}

    @property
    def needs_reference(self) -> bool:
        """Whether some part compares with a reference."""
        return self.kl_in_reward > 0 or any(part.needs_reference for part in self.parts.values())

    @property
    def full_batch(self) -> bool:
        """Whether the call must see the log-probs of the whole step of all processes at once, token by token."""
        return any(part.full_batch for part in self.parts.values())

    @property
    def roles(self) -> frozenset[int]:
        """Auxiliary responses that the step must hold, see `objectives.roles`."""
        return frozenset().union(*(part.roles for part in self.parts.values()))

    @property
    def corrected_weight(self) -> float:
        """What tokens weigh in which chosen and rejected response differ; 1 for all objectives but DDPO."""
        return max(part.corrected_weight for part in self.parts.values())

    def counts(self, groups: list[Group]) -> dict[str, int]:
        """What each part's summed loss is divided by; counts of micro-batches and processes add up."""
        return {name: sum(part.count(group) for group in groups) for name, part in self.parts.items()}

    def initial_state(self) -> State:
        """State before the first step, saved in checkpoints; empty for most objectives."""
        return {
            f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.initial_state().items()
        }

    def update_state(self, state: State, policy: LogProbs, reference: LogProbs | None, columns: Columns) -> State:
        """The state for a step's losses: called once a training step, before them, on its whole log-probs."""
        with torch.no_grad():
            return {
                f"{name}.{key}": value
                for name, part in self.parts.items()
                for key, value in part.update_state(self._sample(name, policy, reference, columns, state)).items()
            }

    def __call__(
        self,
        policy: LogProbs,
        reference: LogProbs | None = None,
        columns: Columns | None = None,
        state: State | None = None,
    ) -> dict[str, Loss]:
        """Each part's unweighted loss, summed over what `policy` covers.

        policy, reference: log-probs of one batch; ordinary responses 2p and 2p + 1 are chosen and rejected of pair p.
        columns: what is known of the batch's responses besides.
        state: see `update_state`; the initial state when left out.
        """
        assert reference is not None or not self.needs_reference, "this objective compares with a reference"
        state = self.initial_state() if state is None else state
        losses: dict[str, Loss] = {}
        logged: set[str] = set()
        for name, part in self.parts.items():
            sample = self._sample(name, policy, reference, columns or Columns(), state)
            with torch.no_grad():
                metrics: Metrics = {key: value for key, value in part.metrics(sample).items() if key not in logged}
            logged |= set(metrics)
            losses[name] = Loss(value=part.losses(sample).sum(), per=part.per, metrics=metrics)
        return losses

    def _sample(
        self, name: str, policy: LogProbs, reference: LogProbs | None, columns: Columns, state: State
    ) -> Sample:
        """What one part reads of a call."""
        part = self.parts[name]
        ordinary, label = of_role(policy, columns, ORDINARY), columns.label
        if label is not None and columns.role is not None:
            label = label[columns.role == ORDINARY]
        return Sample(
            policy=ordinary,
            reference=None if reference is None else of_role(reference, columns, ORDINARY),
            desirable=desirable(ordinary, label),
            columns=columns,
            auxiliary={role: of_role(policy, columns, role) for role in part.roles},
            ref_auxiliary={} if reference is None else {role: of_role(reference, columns, role) for role in part.roles},
            state={key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")},
        )


def build(config: ObjectiveConfig, *, max_completion_length: int = 512) -> Objective:
    """The objective of a recipe. max_completion_length: in tokens, of sampled completions: the sampler's."""
    if isinstance(config, OnlineConfig):
        return _build_online(config, max_completion_length)
    if isinstance(config, MPOConfig):
        return build(config.as_mix())
    if isinstance(config, MixConfig):
        return _build_mix(config)
    parts = parts_of(config, only_desirable=False)
    return Objective(
        parts={name or config.type: part for name, part in parts.items()}, num_responses=_num_responses([config])
    )


def _build_online(config: OnlineConfig, max_completion_length: int) -> Objective:
    return Objective(
        parts={config.type: online_part(config, max_completion_length=max_completion_length)},
        num_responses=0,
        advantages=partial(advantages_of, config, max_completion_length=max_completion_length),
        kl_in_reward=0.0 if isinstance(config, SurrogateConfig) else config.beta,
    )


def _build_mix(config: MixConfig) -> Objective:
    read = config.read_parts()
    configs = [part.config for part in read.values()]
    only_desirable = any(not isinstance(c, DEMONSTRATIONS) for c in configs)
    parts = {
        f"{name}.{sub}" if sub else name: replace(part, weight=given.weight * part.weight)
        for name, given in read.items()
        for sub, part in parts_of(given.config, only_desirable=only_desirable).items()
    }
    return Objective(parts=parts, num_responses=_num_responses(configs))


def _num_responses(configs: list[AnyPartConfig]) -> int | None:
    """2 where some part is over pairs, 1 for demonstrations alone; labelled responses come single or in pairs."""
    if any(not isinstance(c, DEMONSTRATIONS + UNPAIRED) for c in configs):
        return 2
    return None if any(isinstance(c, UNPAIRED) for c in configs) else 1


def parts_of(config: AnyPartConfig, *, only_desirable: bool) -> dict[str, Part]:
    """A config's own part under the name "", and the parts that come with it under theirs."""
    if isinstance(config, DEMONSTRATIONS):
        return {"": token_part(_loss_of_tokens(config), weight=1.0, only_desirable=only_desirable)}
    match config:
        case KTOConfig():
            return {"": kto_part(config, weight=1.0)}
        case BCOConfig():
            return {"": bco_part(config, weight=1.0)}
        case MDPOConfig():
            pairs = pair_part(DPOConfig(beta=config.beta), weight=1.0)
            return {"": pairs, "image": image_conditional_part(config), "anchor": anchor_part(config)}
        case ORPOConfig():
            demonstration = token_part(sft_loss, weight=1.0, only_desirable=True)
            return {"": pair_part(config, weight=config.beta), "sft": demonstration}
        case CPOConfig():
            demonstration = token_part(sft_loss, weight=config.sft_weight, only_desirable=True)
            return {"": pair_part(config, weight=1.0), "sft": demonstration}
        case BCOPairConfig(running_shift=True):
            return {"": shifted_bco_pair_part(config, weight=1.0), **_rpo(config)}
        case PairConfig():
            return {"": pair_part(config, weight=1.0), **_rpo(config)}
        case _:
            return {"": pair_part(config, weight=1.0)}


def _loss_of_tokens(config: SFTConfig | DFTConfig | CustomTokenConfig) -> Callable[[Tensor], Tensor]:
    """[targets] log-probs -> [targets] losses."""
    if isinstance(config, CustomTokenConfig):
        own = custom_loss(config)
        return lambda logp: own(logp, logp=logp)
    return dft_loss if isinstance(config, DFTConfig) else sft_loss


def _rpo(config: PairConfig) -> dict[str, Part]:
    return {"rpo": rpo_part(weight=config.rpo_alpha)} if config.rpo_alpha > 0 else {}
