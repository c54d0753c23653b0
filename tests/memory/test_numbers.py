"""The numbers that the articles print, and totals that model cards give."""

import pytest
import torch

from sightline.config import LoraConfig, ModelConfig, Recipe
from sightline.memory.estimate import static_lines
from sightline.memory.report import by_hand, nominal_parameters
from sightline.memory.shapes import CONFIGS, SHAPES, find_config, read_shape
from sightline.memory.skeleton import Weights, build_skeleton, weights_of

IDEFICS2 = "HuggingFaceM4/idefics2-8b"


def counted(name: str, lora: LoraConfig | None = None) -> tuple[int, int]:
    """(all, trained) parameters; an adapter's are in both."""
    recipe = Recipe(model=ModelConfig(name=name), lora=lora)
    weights = weights_of(build_skeleton(find_config(recipe.model), recipe))
    return sum(w.number for w in weights), sum(w.number for w in weights if w.trained)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (IDEFICS2, 8_402_768_112),
        ("llava-hf/llava-1.5-7b-hf", 7_063_427_072),
        ("google/paligemma-3b-pt-224", 2_923_466_480),
        ("HuggingFaceTB/SmolVLM-Instruct", 2_246_272_880),
        ("Qwen/Qwen2-VL-7B-Instruct", 8_291_375_616),
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976),
        ("Qwen/Qwen2.5-VL-72B-Instruct", 73_410_777_344),
        ("google/gemma-3-4b-it", 4_300_079_472),
    ],
)
def test_shapes_have_as_many_parameters_as_the_models(name, parameters):
    assert counted(name)[0] == parameters


def test_an_optimizer_without_known_states_is_counted_as_another_and_says_so():
    weights = (Weights(part="adapter", dtype=torch.float32, trained=True, quantisable=False, number=10),)
    for optim, said in (
        ("adafactor", "10 × 8 (adafactor, counted as adamw_torch)"),
        ("lion_32bit", "10 × 4 (lion_32bit)"),
    ):
        lines = static_lines(weights, Recipe(optim=optim), needs_reference=False)
        assert [line.formula for line in lines if line.what == "optimiser"] == [said]


def test_every_shape_belongs_to_a_model_and_the_other_way_round():
    assert {path.stem for path in CONFIGS.glob("*.json")} == set(SHAPES.values())
    assert all(read_shape(name).get_text_config().vocab_size > 32_000 - 1 for name in set(SHAPES.values()))


def test_lora_on_all_linear_layers_trains_the_articles_number_and_the_language_model_alone_fewer():
    everywhere, language = LoraConfig(target_modules="all-linear"), LoraConfig()
    assert counted(IDEFICS2, everywhere) == (8_458_116_848, 55_348_736)
    assert counted(IDEFICS2, language)[1] == 41_943_040


def test_sums_by_hand_are_the_articles_nominally_and_exact_beside_them():
    exact, adapter = 8_402_768_112, 55_348_736
    nominal = nominal_parameters(IDEFICS2, exact)
    full = by_hand("full", nominal=nominal, exact=exact, trained=exact, itemsize=4)
    assert [term.nominal / 1e9 for term in full.terms] == [32, 32, 32, 64]
    assert full.nominal / 1e9 == 160 and round(full.exact / 1e9, 1) == 168.1
    lora = by_hand("lora", nominal=nominal, exact=exact, trained=adapter, itemsize=2)
    assert [round(term.nominal / 1e9, 1) for term in lora.terms] == [16, 16, 0.1, 0.2]
    assert round(lora.nominal / 1e9, 1) == 32.3 and round(lora.exact / 1e9, 1) == 33.9
    assert [term.formula for term in lora.terms][2:] == ["55×10⁶ × 2", "2 × 55×10⁶ × 2"]


@pytest.mark.parametrize(
    ("name", "number"),
    [("a/SmolVLM-500M-Instruct", 5e8), ("a/SmolVLM2-2.2B-Instruct", 2.2e9), ("a/qwen2.5-vl-72b", 72e9), ("a/b", 5e9)],
)
def test_the_nominal_number_is_that_of_the_name(name, number):
    assert nominal_parameters(name, 5_123_456_789) == number


@pytest.mark.parametrize("lora", [None, LoraConfig(target_modules="all-linear")], ids=str)
@pytest.mark.parametrize("name", ["google/gemma-3-4b-it", "meta-llama/Llama-3.2-11B-Vision-Instruct"])
def test_a_few_layers_stand_for_all_of_them(name, lora):
    recipe = Recipe(model=ModelConfig(name=name), lora=lora)
    short, whole = (build_skeleton(find_config(recipe.model), recipe, whole=whole) for whole in (False, True))
    assert len(short.stands_for) < len(whole.stands_for) == short.num_layers
    assert weights_of(short, parts=["language"]) == weights_of(whole, parts=["language"])


def test_layers_named_by_their_number_are_counted_one_by_one():
    assert counted(IDEFICS2, LoraConfig(target_modules=r".*text_model\.layers\.3\.mlp\.up_proj"))[1] == 16 * (
        4096 + 14336
    )
