"""Every objective that a recipe can name, and the combinations worth testing."""

from pydantic import TypeAdapter

from sightline.config.objective import PART_TYPES, ObjectiveConfig
from sightline.objectives.objective import Objective, build

VARIANTS = {
    "dpo, forward_kl": {"type": "dpo", "divergence": "forward_kl"},
    "dpo, js": {"type": "dpo", "divergence": "js"},
    "dpo, alpha": {"type": "dpo", "divergence": "alpha"},
    "ipo, alpha 0.3": {"type": "ipo", "divergence": "alpha", "divergence_alpha": 0.3},
    "dpo, ld": {"type": "dpo", "ld_alpha": 0.4},
    "dpo, wpo": {"type": "dpo", "wpo": True},
    "dpo, length": {"type": "dpo", "length_normalised": True},
    "dpo, rpo": {"type": "dpo", "rpo_alpha": 0.2},
    "bco_pair, shift": {"type": "bco_pair", "running_shift": True},
    "bco, no shift": {"type": "bco", "running_shift": False},
    "mpo": {"type": "mpo"},
    "mpo, shift": {"type": "mpo", "running_shift": True},
    "mix": {"type": "mix", "parts": {"aot": 0.5, "ipo": {"weight": 0.2, "beta": 0.5}, "kto": 0.1, "dft": 1.0}},
    "mix of cpo": {"type": "mix", "parts": {"cpo": {"weight": 0.5, "sft_weight": 0.3}, "dpo": {"rpo_alpha": 0.1}}},
    "mix of demonstrations": {"type": "mix", "parts": {"sft": 0.5, "dft": 0.5}},
}

EVERY: dict[str, dict] = {name: {"type": name} for name in PART_TYPES} | VARIANTS


def build_from(options: dict) -> Objective:
    """The objective that these recipe lines mean."""
    return build(TypeAdapter(ObjectiveConfig).validate_python(options))
