"""What `sightline plan` reports: everything its page says, as data, and the sums that users know by hand."""

import re
from dataclasses import asdict, dataclass, replace
from math import floor, log10
from typing import Any

from sightline.config import LoraConfig, Recipe
from sightline.memory.estimate import Estimate
from sightline.memory.estimator import Estimator
from sightline.memory.planner import RESERVE, Fit, find_fit
from sightline.types import Group

# The sums done by hand: N parameters of P bytes each, once for the model, once for the reference, once for the
# gradients and twice for AdamW's states, as in huggingface.co/blog/dpo_vlm. They know no activations. Nominal numbers
# are those of the model's name (8 billion); exact ones are counted.


@dataclass(frozen=True, kw_only=True)
class Term:
    """One line of the sum: bytes by nominal and by exact numbers."""

    name: str
    formula: str
    nominal: float | int
    exact: int


@dataclass(frozen=True, kw_only=True)
class Sum:
    """One way to train, added up by hand."""

    title: str
    terms: tuple[Term, ...]

    @property
    def nominal(self) -> float | int:
        return sum(term.nominal for term in self.terms)

    @property
    def exact(self) -> int:
        return sum(term.exact for term in self.terms)


def by_hand(title: str, *, nominal: float | int, exact: int, trained: int, itemsize: int) -> Sum:
    """The sum for a model of `exact` parameters, `trained` of which have gradients, in `itemsize` bytes each."""
    nominal_trained = nominal if trained == exact else significant(trained, 2)
    whole, part = spelled(nominal), spelled(nominal_trained)
    return Sum(
        title=title,
        terms=(
            Term(name="model", formula=f"{whole} × {itemsize}", nominal=nominal * itemsize, exact=exact * itemsize),
            Term(name="reference", formula=f"{whole} × {itemsize}", nominal=nominal * itemsize, exact=exact * itemsize),
            Term(
                name="gradients",
                formula=f"{part} × {itemsize}",
                nominal=nominal_trained * itemsize,
                exact=trained * itemsize,
            ),
            Term(
                name="AdamW",
                formula=f"2 × {part} × {itemsize}",
                nominal=2 * nominal_trained * itemsize,
                exact=2 * trained * itemsize,
            ),
        ),
    )


def nominal_parameters(name: str, exact: int) -> float | int:
    """The number in the model's name (8b, 500M, 2.2B), else the exact one to a digit."""
    found = re.findall(r"(?<![\d.])(\d+(?:\.\d+)?)([bm])(?![a-z])", name.rpartition("/")[2].lower())
    if found:
        number, unit = found[-1]
        return float(number) * {"b": 1e9, "m": 1e6}[unit]
    return significant(exact, 1)


def significant(number: float | int, digits: int) -> float | int:
    """A number to so many significant digits."""
    return round(number, digits - 1 - floor(log10(number)))


def spelled(number: float | int) -> str:
    """8×10⁹, 55×10⁶."""
    exponent = "9" if number >= 1e9 else "6"
    return f"{number / 10 ** int(exponent):g}×10{'⁹' if exponent == '9' else '⁶'}"


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


def make_plan(estimator: Estimator, recipe: Recipe, *, gpu: int | None, gpus: int = 1) -> Plan:
    """Everything about a recipe's memory, and what would fit on `gpus` GPUs of `gpu` bytes each."""
    weights = estimator.weights(recipe)
    by_part: dict[str, int] = {}
    for w in weights:
        by_part[w.part] = by_part.get(w.part, 0) + w.number
    parameters = sum(number for part, number in by_part.items() if part != "adapter")
    lora = recipe.lora if recipe.lora is not None else LoraConfig()  # type: ignore[call-arg]
    frozen = replace(recipe.model, freeze_vision=True, freeze_projector=True)
    adapted = replace(recipe, model=frozen, lora=replace(lora, target_modules="all-linear", adapter=None))
    everywhere = estimator.weights(adapted)
    trained_everywhere = sum(w.number for w in everywhere if w.trained)
    vocabulary = estimator.config.get_text_config().vocab_size
    row = estimator.shape(recipe).row
    return Plan(
        name=recipe.model.name,
        recipe=recipe,
        row=row,
        parameters=parameters,
        by_part=by_part,
        trained=sum(w.number for w in weights if w.trained),
        trained_everywhere=trained_everywhere,
        hand=_sums(recipe.model.name, parameters, trained_everywhere, lora.r),
        estimate=estimator.estimate(recipe, gpus=gpus),
        logits=4 * recipe.per_device_train_batch_size * _padded_tokens(row) * vocabulary,
        gpu=gpu,
        gpus=gpus,
        fit=None if gpu is None else find_fit(estimator, recipe, capacity=gpu - RESERVE, gpus=gpus),
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
