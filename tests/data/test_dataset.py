"""Rows become groups in workers; bad ones are carried out, counted or raised; one image is one group."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.processors import CHATML, llava
from torch.utils.data import DataLoader

from sightline.config.data import DataConfig
from sightline.data.holdout import split_by_image
from sightline.data.media.image_keys import image_keys
from sightline.data.render.dataset import GroupDataset, Kind
from sightline.data.render.render import Renderer
from sightline.data.sources.load import load_rows, rows_of
from sightline.errors import DataError, RecipeError
from sightline.objectives.roles import ORDINARY, num_of_role
from sightline.training.datasets import collate
from sightline.types import BadRow, Group

IMAGES = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (20, 20, 3), dtype=np.uint8)) for i in range(4)]
ROWS = [
    {"image": IMAGES[i // 3], "question": f"Number {i}?", "chosen": f"yes {i}", "rejected": "no"} for i in range(12)
]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(llava())


def dataset(rows, renderer, kind: Kind = "pairs", **config) -> GroupDataset:
    return GroupDataset(rows, DataConfig(source="memory", **config), renderer, kind)


def test_kinds_take_the_responses_they_need(renderer):
    numbers = {kind: len(dataset(ROWS, renderer, kind)[0].responses) for kind in ("pairs", "demonstrations", "prompts")}
    assert numbers == {"pairs": 2, "demonstrations": 1, "prompts": 0}
    demonstration = dataset(ROWS, renderer, "demonstrations")[5]
    assert renderer.tokenizer.decode(demonstration.responses[0]) == "yes 5<|im_end|>"


def test_a_bad_row_is_an_item_that_says_what_is_wrong(renderer):
    rows = [ROWS[0], {**ROWS[1], "rejected": "yes 1"}, {**ROWS[2], "image": "nowhere.png"}]
    for mode in ("error", "skip"):
        items = dataset(rows, renderer, on_bad_row=mode)
        assert isinstance(items[0], Group)
        assert [items[i].defect for i in (1, 2)] == ["chosen equals rejected", "image missing"]
        assert items[1].id == "rows:1" and items[1].skip == (mode == "skip")


def test_overlong_rows_can_be_skipped_while_bad_rows_are_errors(renderer):
    short = Renderer(llava(), max_length=12, on_overlong="skip")
    assert dataset(ROWS, short, on_overlong="skip")[0].skip
    assert not dataset(ROWS, short, on_overlong="error")[0].skip


def test_workers_give_what_the_main_process_gives(renderer):
    items = dataset([*ROWS[:4], {**ROWS[4], "chosen": ""}], renderer)
    loader = DataLoader(items, batch_size=2, num_workers=1, collate_fn=list)
    loaded = [item for batch in loader for item in batch]
    assert isinstance(loaded[4], BadRow)
    for got, expected in zip(loaded[:4], [items[i] for i in range(4)], strict=True):
        assert torch.equal(got.prompt_ids, expected.prompt_ids)
        assert torch.equal(got.model_inputs["pixel_values"], expected.model_inputs["pixel_values"])


def test_consecutive_rows_on_one_image_are_one_group(renderer):
    shared = dataset(ROWS, renderer, share_images=True)
    apart = dataset(ROWS, renderer)
    assert len(shared) == 4
    group = shared[1]
    assert len(group.responses) == 6 and group.model_inputs["pixel_values"].shape[0] == 1
    for k in range(3):
        one = apart[3 + k]
        for side in (0, 1):
            whole = torch.cat([group.prompt_ids, group.responses[2 * k + side]])
            assert torch.equal(whole, torch.cat([one.prompt_ids, one.responses[side]]))
            targets = group.responses[2 * k + side][group.weights[2 * k + side] > 0]
            assert torch.equal(targets, one.responses[side])


def test_a_bad_row_among_rows_on_one_image_is_left_out_and_listed(renderer):
    rows = [ROWS[0], {**ROWS[1], "chosen": " "}, ROWS[2]]
    group = dataset(rows, renderer, share_images=True, on_bad_row="skip")[0]
    # an empty response is seen when the row is checked, so it breaks no run of images
    assert len(group.responses) == 4 and [b.id for b in group.left_out] == ["rows:1"]
    assert isinstance(dataset(rows, renderer, share_images=True)[0], BadRow)


def test_trimmed_rows_are_named_alone_and_on_a_shared_image_whatever_columns_are_called(renderer):
    plain = dataset(ROWS, renderer)[0]
    limit = len(plain.prompt_ids) + max(map(len, plain.responses))
    short = Renderer(llava(), max_length=limit, on_overlong="truncate")
    rows = [ROWS[0], {**ROWS[1], "chosen": "yes " * 9, "skipped": "no", "role": "user"}]
    for shared in (False, True):
        items = dataset(rows, short, share_images=shared)
        batch = collate([items[i] for i in range(len(items))])
        assert len(batch["groups"]) == (1 if shared else 2)
        assert batch["truncated"] == [("rows:1", 1)] and batch["bad_rows"] == []
        assert sum(num_of_role(group, ORDINARY) for group in batch["groups"]) == 4


def test_rows_that_differ_before_the_image_stay_apart(renderer):
    def row(system: str) -> dict:
        prompt = [{"role": "system", "content": system}, {"role": "user", "content": "What?"}]
        return {"prompt": prompt, "image": IMAGES[0], "chosen": "a", "rejected": "b"}

    assert len(dataset([row("x"), row("y"), row("y")], renderer, share_images=True)) == 2


def test_a_template_that_asks_before_it_shows_cannot_share_images():
    late = CHATML.replace("{% for c in m['content'] %}", "{% for c in m['content'] | reverse %}").replace(
        "IMAGE", "<image>"
    )
    with pytest.raises(RecipeError, match=r"Set data.share_images to false"):
        dataset(ROWS, Renderer(llava(template=late)), share_images=True)[0]


def test_the_data_set_is_cheap_to_send_to_workers(renderer):
    rows = rows_of([{**ROWS[0], "image": "a.png"}] * 1000)
    assert len(pickle.dumps(dataset(rows, renderer))) < 2**20


def test_held_out_rows_share_no_image_with_the_others():
    rows = rows_of(ROWS)
    train, held_out = split_by_image(rows, 0.25, seed=1)
    assert sorted(train + held_out) == list(range(12)) and len(held_out) == 3
    seen = [{rows.example(i).images[0].key for i in indices} for indices in (train, held_out)]
    assert not seen[0] & seen[1]
    assert split_by_image(rows, 0.25, seed=1) == (train, held_out)
    assert any(split_by_image(rows, 0.25, seed=s)[1] != held_out for s in range(2, 9))


def test_held_out_counts_shares_and_nothing():
    assert [len(split_by_image(ROWS, size, 0)[1]) for size in (0.0, 6, 0.5, 11)] == [0, 6, 6, 9]
    # no image has fewer than three rows: one whole image is held out, not a third of it
    assert len(split_by_image(ROWS, 1, 0)[1]) == 3
    with pytest.raises(DataError, match="leaves none to train on"):
        split_by_image(ROWS, 12, 0)


def test_rows_that_share_one_of_several_images_go_together():
    rows = [
        {"images": [a, b], "question": "?", "answer": "x"} for a, b in [("1", "2"), ("2", "3"), ("4", "5"), ("3", "6")]
    ]
    for seed in range(5):
        train, held_out = split_by_image(rows, 1, seed)
        assert (train, held_out) == ([0, 1, 3], [2])


def test_bad_rows_stay_with_training():
    rows = [{**ROWS[0], "image": 3}, *ROWS]
    train, held_out = split_by_image(rows, 0.9, 0)
    assert 0 in train and held_out


def test_image_keys_are_kept_for_unchanged_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sightline.data.media.image_keys.KEPT_FROM", 3)
    rows = [{"image": f"{i // 2}.png", "question": f"{i % 3}?", "answer": "x"} for i in range(6)] + [{"image": 3}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = DataConfig(source=str(tmp_path / "rows.jsonl"))
    first = image_keys(load_rows(config))
    assert first.keys[6] is None and first.openings[0] == first.openings[1] != first.openings[2]
    (kept,) = (tmp_path / "cache").rglob("*.parquet")
    written = kept.stat().st_mtime_ns
    assert image_keys(load_rows(config)) == first and kept.stat().st_mtime_ns == written
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows[::-1])))
    assert image_keys(load_rows(config)).keys == first.keys[::-1]
