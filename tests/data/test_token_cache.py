"""Tokenised rows on disk give the groups that rendering gives, and notice when anything changes."""

import json
import os
import pickle

import datasets
import numpy as np
import pytest
import torch
from tests.data.processors import idefics3, llava, llava_1_5, paligemma
from torch.utils.data import DataLoader

from examples import demo_pairs as real_pairs
from sightline.config.data import DataConfig
from sightline.data.render.dataset import GroupDataset, Kind
from sightline.data.render.render import Renderer
from sightline.data.render.token_cache import TokenCache, tokenised
from sightline.data.sources.load import load_rows
from sightline.types import BadRow

PROCESSORS = {"llava": llava, "llava_1_5": llava_1_5, "idefics3": idefics3, "paligemma": paligemma}


@pytest.fixture
def source(tmp_path):
    """The hand-written pairs, one of them with an empty side, beside their images as files."""
    datasets.disable_progress_bars()
    lines = []
    for i, row in enumerate(real_pairs.rows()):
        (tmp_path / row["image"]["path"]).write_bytes(row["image"]["bytes"])
        lines.append({**row, "image": row["image"]["path"], "chosen": "" if i == 5 else row["chosen"], "score": i})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "pairs.jsonl"


def cache_of(data: GroupDataset) -> TokenCache:
    """Its token cache, which is there."""
    assert data.cache is not None
    return data.cache


def dataset(source, renderer, kind: Kind = "pairs", **config) -> GroupDataset:
    config = DataConfig(source=str(source), cache_dir=str(source.parent / "cache"), on_bad_row="skip", **config)
    return GroupDataset(load_rows(config), config, renderer, kind)


def assert_same(one, other) -> None:
    assert (one.id, one.row, one.columns) == (other.id, other.row, other.columns)
    assert torch.equal(one.prompt_ids, other.prompt_ids) and one.prompt_ids.dtype == other.prompt_ids.dtype
    for mine, theirs in ((one.responses, other.responses), (one.weights, other.weights)):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(mine, theirs, strict=True))
    assert one.model_inputs.keys() == other.model_inputs.keys()
    assert all(torch.equal(one.model_inputs[k], other.model_inputs[k]) for k in one.model_inputs)


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("kind", ["pairs", "prompts"])
def test_cached_groups_are_the_rendered_ones(source, name, kind):
    renderer = Renderer(PROCESSORS[name]())
    plain, cached = (dataset(source, renderer, kind, cache_tokens=c) for c in (False, True))
    for i in (0, 4, 5, 23):
        one, other = plain[i], cached[i]
        if isinstance(one, BadRow):
            assert one == other
        else:
            assert_same(one, other)
            assert cache_of(cached).lengths[i] == one.num_tokens
            assert cache_of(cached).group(i, cached.example(i), renderer) is not None  # the short way was taken


@pytest.mark.parametrize("family", ["qwen2_vl", "smolvlm"])
def test_cached_groups_of_loaded_processors_are_the_rendered_ones(source, tiny_model, family):
    from sightline.config import ModelConfig
    from sightline.models.load import load_processor

    renderer = Renderer(load_processor(ModelConfig(name=str(tiny_model(family)))))
    plain, cached = (dataset(source, renderer, cache_tokens=c, limit=3) for c in (False, True))
    for i in range(3):
        assert_same(plain[i], cached[i])
        assert cache_of(cached).group(i, cached.example(i), renderer) is not None


def test_weights_of_several_turns_are_kept(tmp_path):
    turns = [
        {"role": r, "content": t}
        for r, t in [("user", "Hi"), ("assistant", "Yes"), ("user", "So?"), ("assistant", "No")]
    ]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": turns}))
    plain, cached = (
        dataset(tmp_path / "chat.jsonl", Renderer(llava()), "demonstrations", cache_tokens=c) for c in (False, True)
    )
    assert_same(plain[0], cached[0])
    assert set(cached[0].weights[0].tolist()) == {0.0, 1.0}


def test_the_cache_is_found_again_and_made_anew_when_rows_processor_or_limits_change(source):
    renderer = Renderer(llava())
    first = cache_of(dataset(source, renderer, cache_tokens=True)).path
    written = first.stat().st_mtime_ns
    assert cache_of(dataset(source, Renderer(llava()), cache_tokens=True)).path == first
    assert first.stat().st_mtime_ns == written
    others = [
        dataset(source, Renderer(llava(), max_length=100), cache_tokens=True),
        dataset(source, Renderer(idefics3()), cache_tokens=True),
        dataset(source, renderer, "demonstrations", cache_tokens=True),
        dataset(source, renderer, cache_tokens=True, split="train[:5]"),
    ]
    source.write_text(source.read_text().replace("spoon", "fork"))
    os.utime(source, ns=(1, 1))
    others.append(dataset(source, renderer, cache_tokens=True))
    paths = {cache_of(d).path for d in others}
    assert len(paths) == 5 and first not in paths
    assert not list((source.parent / "cache").glob(".*.part"))


def test_a_image_file_that_changed_is_rendered_anew(source):
    renderer = Renderer(idefics3())
    cached = dataset(source, renderer, cache_tokens=True)
    small = real_pairs.photograph("coffee").resize((40, 200))
    small.save(source.parent / "coffee.jpg")
    assert_same(cached[0], dataset(source, renderer)[0])


def test_the_cache_holds_no_pixels_and_is_small(tmp_path):
    rows = datasets.Dataset.from_list(real_pairs.rows() * 10).cast_column("image", datasets.Image())
    rows.to_parquet(str(tmp_path / "pairs.parquet"))
    data = dataset(tmp_path / "pairs.parquet", Renderer(llava()), cache_tokens=True)
    stored = sum(len(row["image"]["bytes"]) for row in real_pairs.rows()) * 10
    assert cache_of(data).path.stat().st_size < 0.02 * stored
    assert len(pickle.dumps(data.cache)) < 10_000


def test_processes_and_workers_give_the_same(source):
    renderer = Renderer(llava())
    one = tokenised(load_rows(DataConfig(source=str(source))), renderer, 2, source.parent / "one")
    two = tokenised(load_rows(DataConfig(source=str(source))), renderer, 2, source.parent / "two", num_processes=2)
    np.testing.assert_array_equal(one.lengths, two.lengths)
    cached = dataset(source, renderer, cache_tokens=True)
    loader = DataLoader(cached, batch_size=8, num_workers=2, collate_fn=list)
    for got, index in zip((item for batch in loader for item in batch), range(5), strict=False):
        assert_same(got, cached[index])


def test_rows_made_in_python_are_never_taken_for_others(tmp_path):
    renderer = Renderer(llava())
    config = DataConfig(cache_tokens=True, cache_dir=str(tmp_path))
    for answer in ("yes", "no"):
        data = GroupDataset([{"question": "?", "chosen": answer, "rejected": "x"}], config, renderer, "pairs")
        assert renderer.tokenizer.decode(data[0].responses[0]) == f"{answer}<|im_end|>"
