"""Do two models of one processor class see pictures alike? A resolution that differs is not what training changed."""

from collections.abc import Mapping
from typing import Any

from transformers import ProcessorMixin


def reading_note(processors: Mapping[str, ProcessorMixin]) -> str | None:
    """One sentence on the options of the image processors that differ from the first of their class; None for none."""
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    differing = []
    for label, processor in processors.items():
        options = _options(processor)
        reference, theirs = first.setdefault(type(processor).__name__, (label, options))
        differing += [
            f"{name} is {theirs.get(name)} for {reference} and {options.get(name)} for {label}"
            for name in sorted(theirs.keys() | options.keys())
            if theirs.get(name) != options.get(name)
        ]
    if not differing:
        return None
    return (
        f"The models do not see pictures alike: {'; '.join(differing)}. `--processor` sets an option for all of them."
    )


def _options(processor: ProcessorMixin) -> dict[str, Any]:
    """Plain values of the image processor and of the processor itself, sizes by their sides."""
    images: Any = processor.image_processor  # pyright: ignore[reportAttributeAccessIssue]
    found = {name: value for name, value in vars(images).items() if not name.startswith("_")}
    size = found.pop("size", None) or {}
    found |= {f"size.{side}": value for side, value in dict(size).items() if value is not None}
    found |= {name: value for name, value in vars(processor).items() if isinstance(value, bool | int | float)}
    return {name: value for name, value in found.items() if isinstance(value, bool | int | float)}
