"""`sightline plan`: everything that its page says, as data."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from sightline.config import LoraConfig, Recipe
from sightline.memory.estimate import Estimate
from sightline.memory.nominal import Sum, by_hand, nominal_parameters
from sightline.memory.planned import Planned
from sightline.memory.planner import RESERVE, Fit, find_fit
from sightline.types import Group


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe's memory.

    parameters: of the bare model; by_part: those of each part. trained, trained_everywhere: what the recipe trains,
    and what the same adapter on all linear layers, tower included, would. hand: the sums that users know.
    logits: bytes of the float32 logits of every position, which never exist here. gpu, gpus: bytes of a GPU and how
    many; fit: None where no GPU was named or nothing fits.
    """

    name: str
    recipe: Recipe
    row: Group
    parameters: int
    by_part: dict[str, int]
    trained: int
    trained_everywhere: int
    hand: tuple[Sum, ...]
    estimate: Estimate
    logits: int
    gpu: int | None
    gpus: int
    fit: Fit | None

    @property
    def fits(self) -> bool | None:
        """Whether the recipe fits as it is; None where no GPU was named."""
        return None if self.gpu is None else self.estimate.peak <= self.gpu - RESERVE

    def as_json(self) -> dict[str, Any]:
        """For programs. Bytes everywhere."""
        kinds = ("weights", "reference", "gradients", "optimiser", "activations")
        return {
            "model": self.name,
            "parameters": self.parameters,
            "parameters_by_part": self.by_part,
            "trained": self.trained,
            "trained_all_linear": self.trained_everywhere,
            "row": {"prompt_tokens": len(self.row.prompt_ids), "response_tokens": [len(r) for r in self.row.responses]},
            "by_hand": [asdict(s) | {"nominal": s.nominal, "exact": s.exact} for s in self.hand],
            "lines": [asdict(line) for line in self.estimate.lines],
            "totals": {what: self.estimate.of(what) for what in kinds},
            "peak": self.estimate.peak,
            "logits_never_held": self.logits,
            "gpu": self.gpu,
            "gpus": self.gpus,
            "fits": self.fits,
            "fit": None if self.fit is None else {
                "changes": [asdict(change) for change in self.fit.changes],
                "fields": self.fit.fields,
                "peak": self.fit.peak,
            },
        }  # fmt: skip


def make_plan(planned: Planned, recipe: Recipe, *, gpu: int | None, gpus: int = 1) -> Plan:
    """Everything about a recipe's memory, and what would fit on `gpus` GPUs of `gpu` bytes each."""
    weights = planned.weights(recipe)
    by_part: dict[str, int] = {}
    for w in weights:
        by_part[w.part] = by_part.get(w.part, 0) + w.number
    parameters = sum(number for part, number in by_part.items() if part != "adapter")
    lora = recipe.lora if recipe.lora is not None else LoraConfig()  # type: ignore[call-arg]
    frozen = replace(recipe.model, freeze_vision=True, freeze_projector=True)
    adapted = replace(recipe, model=frozen, lora=replace(lora, target_modules="all-linear", adapter=None))
    everywhere = planned.weights(adapted)
    trained_everywhere = sum(w.number for w in everywhere if w.trained)
    vocabulary = planned.config.get_text_config().vocab_size
    row = planned.shape(recipe).row
    return Plan(
        name=recipe.model.name,
        recipe=recipe,
        row=row,
        parameters=parameters,
        by_part=by_part,
        trained=sum(w.number for w in weights if w.trained),
        trained_everywhere=trained_everywhere,
        hand=_sums(recipe.model.name, parameters, trained_everywhere, lora.r),
        estimate=planned.estimate(recipe, gpus=gpus),
        logits=4 * recipe.per_device_train_batch_size * _padded_tokens(row) * vocabulary,
        gpu=gpu,
        gpus=gpus,
        fit=None if gpu is None else find_fit(planned, recipe, capacity=gpu - RESERVE, gpus=gpus),
    )


def _sums(name: str, parameters: int, adapter: int, rank: int) -> tuple[Sum, ...]:
    nominal = nominal_parameters(name, parameters)
    full = by_hand("every weight trained, float32", nominal=nominal, exact=parameters, trained=parameters, itemsize=4)
    lora = by_hand(
        f"LoRA r={rank} on all linear layers, bfloat16",
        nominal=nominal,
        exact=parameters,
        trained=adapter,
        itemsize=2,
    )
    return full, lora


def _padded_tokens(row: Group) -> int:
    longest = max((len(response) for response in row.responses), default=0)
    return len(row.responses) * (len(row.prompt_ids) + longest)
