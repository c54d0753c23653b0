"""Models and groups that the tests of `policy` share."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from transformers import PreTrainedModel, ProcessorMixin

from sightline.config import ModelConfig
from sightline.policy.families import family_of
from sightline.policy.load import load_model, load_processor
from sightline.types import Group
from tests.groups import make_group


class Loaded(NamedTuple):
    """A frozen model, its processor, and how to make placed groups for it."""

    model: PreTrainedModel
    processor: ProcessorMixin
    config: ModelConfig

    def group(self, **options) -> Group:
        return family_of(self.model).place(make_group(self.processor, **options))


@pytest.fixture
def loaded(tiny_model: Callable[[str], Path]) -> Callable[..., Loaded]:
    """`loaded("llava")`: the tiny model of a family, freshly loaded, every weight frozen."""

    def load(name: str, **options) -> Loaded:
        config = ModelConfig(name=str(tiny_model(name)), **options)
        return Loaded(load_model(config), load_processor(config), config)

    return load
