"""Processors with and without torchvision, and the recipe's options for them.

Some processors (Qwen-VL, InternVL, SmolVLM) insist on a video processor, and those need torchvision. Where torchvision
is absent the same processor is loaded without its video part; images then go through transformers' Pillow classes.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoProcessor, PretrainedConfig, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name
from transformers.models.smolvlm import processing_smolvlm
from transformers.utils import cached_file, is_torchvision_available

from sightline.errors import ModelError, did_you_mean, shown
from sightline.models.image_checks import check_images
from sightline.models.trial import try_processor


def from_pretrained(
    folder: str, config: PretrainedConfig, revision: str | None, trust_remote_code: bool = False
) -> ProcessorMixin:
    """The processor in a folder or hub repository; images only where torchvision is missing.

    Raises `ModelError` where it cannot be loaded, or has settings, a template or a tokenizer that cannot be used.
    """
    options = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    do_without_number_words()
    try:
        found = _loaded(folder, config, options)
    except Exception as error:  # whatever transformers raises for values that make no sense
        refuse_foreign_code(error, folder)
        reason = shown(next(iter(str(error).strip().splitlines()), "") or type(error).__name__, 200)
        if isinstance(error, KeyError | AttributeError | TypeError):
            reason = f"a value of its files is missing or of another kind ({type(error).__name__}: {reason})."
        raise ModelError(
            f"The processor of {folder!r} cannot be loaded: {reason} The folder must hold the processor's files "
            "(preprocessor_config.json or processor_config.json) and the tokenizer's."
        ) from error
    check_images(found, folder)
    try_processor(found, folder)
    return found


def _loaded(folder: str, config: PretrainedConfig, options: dict[str, Any]) -> ProcessorMixin:
    if is_torchvision_available():
        return AutoProcessor.from_pretrained(folder, **options)
    named = ProcessorMixin.get_processor_dict(folder, revision=options["revision"])[0].get("processor_class")
    kind = processor_class_from_name(named) if named else PROCESSOR_MAPPING.get(type(config), None)
    if kind is None or "video_processor" not in kind.get_attributes():
        return AutoProcessor.from_pretrained(folder, **options)
    return without_video(kind).from_pretrained(folder, revision=options["revision"])


def refuse_foreign_code(error: Exception, name: str) -> None:
    """Raises `ModelError` where loading failed because the folder brings Python files that would have to be run."""
    if "trust_remote_code" in str(error):
        raise ModelError(
            f"{name!r} brings Python code of its own, which is not run unless you say so. If you have read it and "
            "trust who wrote it, set `model.trust_remote_code: true` in the recipe and `model.revision` to the version "
            "that you read; commands without a recipe take `--trust-remote-code`."
        ) from error


def do_without_number_words() -> None:
    """Let SmolVLM's processor do without num2words (LGPL-2.1), which only spells how many frames a video has."""
    if processing_smolvlm.num2words is None:
        processing_smolvlm.num2words = _no_words


def _no_words(number: int) -> str:
    raise ModelError("A prompt with a video needs num2words (`pip install num2words`); images need none.")


VIDEO_PROCESSORS = {
    "InternVLProcessor": "InternVLVideoProcessor",
    "Qwen2VLProcessor": "Qwen2VLVideoProcessor",
    "Qwen2_5_VLProcessor": "Qwen2VLVideoProcessor",
    "Qwen3VLProcessor": "Qwen3VLVideoProcessor",
    "SmolVLMProcessor": "SmolVLMVideoProcessor",
}
"""The video part of each processor; transformers' own table is empty where torchvision is missing."""


class NoVideo:
    """Stands where a video processor would, and keeps its settings; chat templates ask it for these two numbers."""

    num_frames, fps = 0, 0

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def __call__(self, *_: Any, **__: Any) -> None:
        raise ModelError("This processor takes videos only where torchvision is installed; images need none.")


class _WithoutVideo(ProcessorMixin):
    """Between a processor's class and transformers': the video processor that it hands on by name is left out."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        named.pop("video_processor", None)
        super().__init__(*parts, **named)


@cache
def without_video(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """The same processor class, of the same name, without its video processor (the last of its parts).

    Its settings are saved all the same, so that the folder loads whole where torchvision is installed. Raises
    ModelError for a processor that cannot do without.
    """
    if kind.get_attributes()[-1] != "video_processor":
        raise ModelError(f"{kind.__name__} needs torchvision. Install the version that matches your torch.")
    do_without_number_words()

    def get_attributes(cls: type[ProcessorMixin]) -> list[str]:
        return [name for name in kind.get_attributes() if name != "video_processor"]

    def get_arguments(cls: type[ProcessorMixin], *args: Any, **options: Any) -> list[Any]:
        found = super(made, cls)._get_arguments_from_pretrained(*args, **options)
        # the constructor has a place for it, and `ProcessorMixin` takes no more parts than attributes
        return [*found, None]

    def load(cls: type[ProcessorMixin], folder: str, **options: Any) -> ProcessorMixin:
        processor = super(made, cls).from_pretrained(folder, **options)
        settings = _video_settings(folder, options.get("revision", "main"))
        if settings is not None:
            processor.video_processor = NoVideo(settings)
        return processor

    def to_dict(self: ProcessorMixin) -> dict[str, Any]:
        return {**super(made, self).to_dict(), "video_processor": self.video_processor.settings}

    def reduce(self: ProcessorMixin) -> tuple[Any, ...]:
        return (_rebuild, (kind, self.__dict__))

    named = VIDEO_PROCESSORS.get(kind.__name__)
    members = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "video_processor": NoVideo({"video_processor_type": named} if named else {}),
        "get_attributes": classmethod(get_attributes),
        "_get_arguments_from_pretrained": classmethod(get_arguments),
        "from_pretrained": classmethod(load),
        "to_dict": to_dict,
        "__reduce__": reduce,
    }
    made: Any = type(kind.__name__, (kind, _WithoutVideo), members)  # pyright: ignore[reportGeneralTypeIssues]
    return made


def _video_settings(folder: str, revision: str) -> dict[str, Any] | None:
    """The video processor's settings where transformers would look for them, or None."""
    for name in ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json"):
        file = cached_file(folder, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if file is None:
            continue
        settings = json.loads(Path(file).read_text(encoding="utf-8"))
        settings = settings.get("video_processor") if name == "processor_config.json" else settings
        if settings is not None:
            return settings
    return None


def _rebuild(kind: type[ProcessorMixin], state: dict[str, Any]) -> ProcessorMixin:
    """Unpickle: the class exists in memory only, and is made again."""
    processor = object.__new__(without_video(kind))
    processor.__dict__.update(state)
    return processor


PIXEL_BUDGETS = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
"""Qwen-VL's names, and where its processors keep them: as numbers of pixels, among the sizes."""


def set_options(processor: ProcessorMixin, options: dict[str, Any]) -> None:
    """Set `do_image_splitting`, `longest_edge`, … on the image processor or the processor; they are saved with it.

    Raises ModelError for an option that neither has, and for a value of another kind than it has.
    """
    images = processor.image_processor
    for name, value in options.items():
        place = PIXEL_BUDGETS[name] if name in _pixel_budgets(images) else name
        if place in _sizes(images):
            _require_kind(name, value, images.size[place])
            images.size = type(images.size)(**{**dict(images.size), place: value})
        elif _is_setting(images, name):
            _require_kind(name, value, getattr(images, name))
            setattr(images, name, value)
        elif name in _own_options(processor):
            _require_kind(name, value, getattr(processor, name))
            setattr(processor, name, value)
        else:
            _refuse(processor, name)


def _require_kind(name: str, value: Any, present: Any) -> None:
    """Raise ModelError where a number, a switch or a text takes the place of another of them."""
    for kinds, expected in ((bool, "true or false"), (int | float, "a number"), (str, "text")):
        if isinstance(present, kinds):
            is_alike = isinstance(value, kinds) and isinstance(value, bool) == isinstance(present, bool)
            if is_alike and (not isinstance(value, float) or math.isfinite(value)):
                return
            product = " YAML works nothing out: write the product itself." if "*" in str(value) else ""
            raise ModelError(
                f"`model.processor.{name}` should be {expected}, as {present!r} is; it is {value!r}.{product}"
            )


def _is_setting(images: Any, name: str) -> bool:
    """Whether an attribute is an option that may be set: no method, and nothing of Python's or the library's own."""
    return not name.startswith("_") and hasattr(images, name) and not callable(getattr(images, name))


def _sizes(images: Any) -> list[str]:
    size = getattr(images, "size", None) or {}
    return [key for key in ("shortest_edge", "longest_edge", "height", "width") if size.get(key) is not None]


def _pixel_budgets(images: Any) -> list[str]:
    return [name for name in PIXEL_BUDGETS if name in getattr(images.valid_kwargs, "__annotations__", {})]


def _own_options(processor: ProcessorMixin) -> list[str]:
    """Plain settings of the processor itself, such as `image_seq_len`."""
    return [name for name, value in vars(processor).items() if isinstance(value, bool | int | float)]


def _refuse(processor: ProcessorMixin, name: str) -> None:
    images = processor.image_processor
    settings = {key for key, value in vars(images).items() if not key.startswith("_")}
    known = sorted({*settings, *_sizes(images), *_pixel_budgets(images), *_own_options(processor)})
    hint = did_you_mean(name, known, written="'{}'")
    raise ModelError(
        f"`model.processor` has the option {name!r}, which {type(processor).__name__} does not know. "
        f"{hint + ' ' if hint else ''}It has: {', '.join(known)}."
    )
