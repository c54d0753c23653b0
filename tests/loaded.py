"""A tiny model in memory with its processor; the fixture `loaded` gives one."""

from typing import NamedTuple

from transformers import PreTrainedModel, ProcessorMixin

from sightline.config import ModelConfig
from sightline.models.families.find import family_of
from sightline.types import Group
from tests.groups import make_group


class Loaded(NamedTuple):
    """A frozen model, its processor, and how to make placed groups for it."""

    model: PreTrainedModel
    processor: ProcessorMixin
    config: ModelConfig

    def group(self, **options) -> Group:
        return family_of(self.model).place(make_group(self.processor, **options))
