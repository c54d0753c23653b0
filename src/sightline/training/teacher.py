"""The teacher of a distillation: a model of the policy's own type that reads the same tokens and the same images."""

from typing import Any

from torch import nn

from sightline.config import ModelConfig, Recipe
from sightline.errors import ModelError
from sightline.forward.reference import Reference
from sightline.models.adapter import require_adapter, with_adapter
from sightline.models.load import load_model, load_processor
from sightline.models.unwrap import unwrap
from sightline.training.arguments import device


def load_teacher(recipe: Recipe, processor: Any, policy: nn.Module) -> Reference:
    """The recipe's teacher, frozen. processor: the student's.

    Raises `ModelError` for a teacher whose tokens or images are not the student's.
    """
    config = recipe.reference
    assert config.model is not None, "refused in the recipe"
    described = ModelConfig(name=config.model, quantize=config.quantize, dtype=recipe.model.dtype)
    theirs = load_processor(described)
    model: nn.Module = load_model(described, device(recipe))
    refuse_another_kind(config.model, unwrap(model), theirs, unwrap(policy), processor)
    if config.adapter is not None:
        model = with_adapter(model, require_adapter(config.adapter)).requires_grad_(False)
    return Reference(mode="teacher", model=model.eval())


def refuse_another_kind(name: str, teacher: Any, theirs: Any, student: Any, ours: Any) -> None:
    """Raises `ModelError` where token ids, chat template, images or the type of the model are not the student's.

    theirs, ours: the processors of teacher and student.
    """
    pairs = {
        "model type": (teacher.config.model_type, student.config.model_type),
        "tokenizer's vocabulary": (theirs.tokenizer.get_vocab(), ours.tokenizer.get_vocab()),
        "image processor": (_settings(theirs.image_processor), _settings(ours.image_processor)),
    }
    for what, (its, own) in pairs.items():
        if its != own:
            raise ModelError(
                f"The teacher {name!r} has another {what} than the student{_difference(its, own)}: the same completion "
                "would be other tokens or other images to it. Name a teacher of the student's own series."
            )


def _settings(processor: Any) -> dict[str, Any]:
    return {name: value for name, value in processor.to_dict().items() if name not in ("processor_class", "auto_map")}


def _difference(its: Any, own: Any) -> str:
    if isinstance(its, str):
        return f" ({its}, not {own})"
    keys = sorted(key for key in its.keys() | own.keys() if its.get(key) != own.get(key))
    return f" ({len(keys):,} entries differ, such as {keys[0]!r})"
