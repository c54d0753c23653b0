"""Before the first step one real group goes through both layouts; what came of it stands in metrics.jsonl."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from sightline.config import ModelConfig
from sightline.errors import ModelError
from sightline.models.families.find import FAMILIES, Family, family_of
from sightline.models.load import load_model, load_processor, unfreeze
from sightline.training.layout_choice import choose_layout
from tests.groups import make_group
from tests.training.runs import curve, lines, pairs, run


def choice(folder: Path) -> dict[str, Any]:
    (found,) = [line for line in lines(folder) if line.get("event") == "layout"]
    return found


def test_training_falls_back_to_padded_and_says_so(tmp_path: Path, tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, folder = pairs(8), tiny_model("llava")
    run(tmp_path / "shared", folder, rows, layout="auto", max_steps=2)
    agreed = choice(tmp_path / "shared")
    assert agreed["layout"] == "prefix" and "equal to padded within" in agreed["reason"]
    # a mask that lets responses see each other
    monkeypatch.setattr("sightline.models.families.family.Family.masks", lambda self, batch: (batch.group >= 0).long())
    run(tmp_path / "broken", folder, rows, layout="auto", max_steps=2)
    found = choice(tmp_path / "broken")
    assert found["layout"] == "padded" and "the shared prefix differs by" in found["reason"]
    assert curve(tmp_path / "broken") == pytest.approx(curve(tmp_path / "shared"), abs=1e-5)


class Rows(list, Dataset):
    """A dataset of the groups given."""


@pytest.fixture
def unknown(tiny_model, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Family, Rows]:
    """A model whose type is in no table, its family, and rows."""
    monkeypatch.delitem(FAMILIES, "llava")
    config = ModelConfig(name=str(tiny_model("llava")))
    model = unfreeze(load_model(config), config)
    return model, family_of(model), Rows([make_group(load_processor(config), lengths=(7, 11))])


def test_a_type_that_is_not_known_is_tried_and_shares_its_prompt_where_that_is_exact(unknown) -> None:
    model, family, rows = unknown
    assert not family.is_known and not family.decodes
    layout, reason = choose_layout(model, family, rows, wanted="auto")
    assert layout == "prefix" and "equal to padded within" in reason and "new here" in reason
    assert choose_layout(model, family, rows, wanted="padded")[0] == "padded"
    assert choose_layout(model, family, Rows(), wanted="auto")[0] == "padded"


def test_a_type_that_is_not_known_is_padded_where_a_shared_prefix_differs_or_fails(unknown, monkeypatch) -> None:
    model, family, rows = unknown
    monkeypatch.setattr(Family, "masks", lambda self, batch: (batch.group >= 0).long())
    layout, reason = choose_layout(model, family, rows, wanted="auto")
    assert layout == "padded" and "because the shared prefix differs by" in reason
    with pytest.raises(ModelError, match=r"`layout: prefix` is not exact for llava"):
        choose_layout(model, family, rows, wanted="prefix")
    monkeypatch.setattr(Family, "masks", lambda self, batch: torch.ones(1, 1, 3, 3, dtype=torch.bool))
    layout, reason = choose_layout(model, family, rows, wanted="auto")
    assert layout == "padded" and "because the shared prefix fails with" in reason


def test_a_type_that_is_not_known_is_refused_where_its_log_probs_are_not_its_own(unknown, monkeypatch) -> None:
    model, family, rows = unknown
    monkeypatch.setattr(Family, "softcap", property(lambda self: 2.0))
    with pytest.raises(ModelError, match=r"differ by .* nats from what the model itself says"):
        choose_layout(model, family, rows, wanted="auto")


def test_layers_without_a_mask_are_padded_without_a_trial(unknown, monkeypatch) -> None:
    model, _, rows = unknown
    monkeypatch.setattr(model.config.text_config, "layer_types", ["conv", "full_attention"], raising=False)
    layout, reason = choose_layout(model, family_of(model), rows, wanted="auto")
    assert layout == "padded" and "because it has layers of the kind conv" in reason
