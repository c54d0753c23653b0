"""A processor's stand-in, for types whose own transformers has only with torchvision, or not at all.

It cuts images as the tower's arguments ask (patches with a grid, or one tile an image) and writes as many image
tokens as the tower makes features: enough to compare layouts of a model. What the type's own processor does is not
shown.
"""

import inspect
from typing import Any

import torch
import transformers as hf
from PIL import Image
from torch import Tensor, nn

from sightline.models.families.family import flatten
from sightline.rehearsal.tiny_config import patch_and_size


class StandIn(hf.ProcessorMixin):
    """Called as a processor is: `text` [one], `images` [[...]] → ids [1, P] and what model and tower read."""

    def __init__(
        self, model: Any, tokenizer: Any, images: Any, kind: str, chat_template: str, image_token: str
    ) -> None:
        """images: the type's own image processor, None where there is none. kind: of `tiny_families.Family.stand_in`;
        square patches have three axes, double ones hold two moments."""
        self.kind = kind
        self.model, self.tokenizer, self.chat_template, self.image_token = model, tokenizer, chat_template, image_token
        inner = getattr(model, "model", model)
        self.tower = inner if hasattr(inner, "get_image_features") else model
        self.reads = inspect.signature(self.tower.get_image_features).parameters
        self.image_processor = images or self._images()

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        return self.tokenizer.apply_chat_template(messages, chat_template=self.chat_template, **options)

    def __call__(self, text: list[str], images: list[list[Image.Image]] | None = None, **_: Any) -> dict[str, Tensor]:
        counts = [self._count(self._inputs([image])) for image in (images[0] if images else [])]
        first, *parts = text[0].split(self.image_token)
        written = first + "".join(self.image_token * n + part for n, part in zip(counts, parts, strict=True))
        ids = self.tokenizer(written, return_tensors="pt")["input_ids"]
        found = self._inputs(images[0]) if images else {}
        token = self.tokenizer.convert_tokens_to_ids(self.image_token)
        for name in ("mm_token_type_ids", "token_type_ids"):
            if name in inspect.signature(self.model.forward).parameters:
                found[name] = (ids == token).long()
        return {"input_ids": ids, **found}

    def _images(self) -> Any:
        vision = getattr(self.model.config, "vision_config", self.model.config)
        patch, size = patch_and_size(self.model.config)
        if self.kind == "flat patches":
            return FlatPatches(getattr(vision, "model_patch_size", patch))
        if "image_grid_thw" not in self.reads or self.kind == "tiles":
            size = getattr(vision, "image_size", size)
            size = size if isinstance(size, int) else size[0]
            return hf.SiglipImageProcessorPil(size={"height": size, "width": size})
        merges = ("spatial_merge_size", "merge_size", "merge_kernel_size")
        merge = next((getattr(vision, name) for name in merges if hasattr(vision, name)), 2)
        merge = merge if isinstance(merge, int) else merge[0]
        return hf.Qwen2VLImageProcessorPil(
            size={"shortest_edge": (merge * patch) ** 2, "longest_edge": (8 * patch) ** 2},
            patch_size=patch,
            merge_size=merge,
            temporal_patch_size=2 if self.kind == "double patches" else getattr(vision, "temporal_patch_size", 1),
        )

    def _inputs(self, images: list[Image.Image]) -> dict[str, Tensor]:
        made = dict(self.image_processor(images=[images], return_tensors="pt"))
        if self.kind == "square patches":
            patch = int(made["pixel_values"].shape[-1] // 3) ** 0.5
            made["pixel_values"] = made["pixel_values"].unflatten(-1, (3, int(patch), int(patch)))
        if self.kind == "nested tiles":
            made["pixel_values"] = made["pixel_values"][:, None]
        if "image_sizes" in self.reads and "image_sizes" not in made:
            made["image_sizes"] = torch.tensor(len(images) * [made["pixel_values"].shape[-2:]])
        taken = inspect.signature(self.model.forward).parameters
        return {name: value for name, value in made.items() if name in self.reads or name in taken}

    @torch.no_grad()
    def _count(self, inputs: dict[str, Tensor]) -> int:
        read = {name: value for name, value in inputs.items() if name in self.reads}
        return len(features_of(self.tower.get_image_features(**read, return_dict=True)))


def features_of(output: Any) -> Tensor:
    """What a tower made of its images, as [tokens, hidden]: pooled, else its last states, else a deep layer's."""
    features = output if isinstance(output, Tensor | list | tuple) else output.pooler_output
    features = output.last_hidden_state if features is None else features
    features = output.deepstack_features[0][1] if features is None else features
    return flatten(features)


class FlatPatches:
    """An image processor: every image as MOST patches of [3 · patch²] values, the last ones empty, and their places.

    Images get SIDE or twice as many patches along a side, by their shape. Windows of SIDE × SIDE patches are a token to
    some towers: `image_token_pooling` has their indices, `image_grids` how many there are.
    """

    SIDE = 2
    MOST = (2 * SIDE) ** 2

    def __init__(self, patch: int) -> None:
        self.patch = patch

    def __call__(self, images: list[list[Image.Image]], **_: Any) -> dict[str, Tensor]:
        made = [self._image(image) for image in images[0]]
        found = {name: torch.stack([one[name] for one in made]) for name in made[0] if name != "windows"}
        windows = torch.cat([one["windows"] + number * self.MOST for number, one in enumerate(made)])
        return {**found, "image_token_pooling": windows}

    def _image(self, image: Image.Image) -> dict[str, Tensor]:
        rows = self.SIDE * (1 + (image.height >= image.width))
        columns = self.SIDE * (1 + (image.width >= image.height))
        resized = image.resize((columns * self.patch, rows * self.patch))
        pixels = torch.frombuffer(bytearray(resized.convert("RGB").tobytes()), dtype=torch.uint8) / 255
        patches = pixels.view(rows, self.patch, columns, self.patch, 3).transpose(1, 2).flatten(0, 1).flatten(1)
        missing = self.MOST - len(patches)
        places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(-1)
        numbers = torch.arange(rows * columns).view(rows // self.SIDE, self.SIDE, columns // self.SIDE, self.SIDE)
        return {
            "pixel_values": nn.functional.pad(patches, (0, 0, 0, missing)),
            "pixel_attention_mask": (torch.arange(self.MOST) < len(patches)).long(),
            "spatial_shapes": torch.tensor([rows, columns]),
            "image_position_ids": nn.functional.pad(places, (0, 0, 0, missing), value=-1),
            "windows": numbers.transpose(1, 2).flatten(0, 1).flatten(1),
            "image_grids": torch.tensor([rows // self.SIDE, columns // self.SIDE, 0, 0]),
        }
