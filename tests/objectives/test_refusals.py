"""Combinations that mean nothing are refused when the recipe is read, with the reason."""

import pytest

from sightline.config.objective import PART_TYPES
from sightline.errors import DataError, RecipeError
from sightline.recipe import load_recipe
from tests.objectives.every import EVERY, build_from
from tests.objectives.made_steps import columns_of, make_groups, make_log_probs

REFUSED = [
    (["--objective.type", "bco_pair", "--objective.divergence", "forward_kl"], "f-divergence"),
    (["--objective.type", "kto", "--objective.divergence", "js"], "f-divergence"),
    (["--objective.type", "aot", "--objective.wpo"], "sorts log-ratios"),
    (["--objective.type", "exo_pair", "--objective.label_smoothing", "0"], "log ε"),
    (["--objective.type", "simpo", "--objective.divergence", "js"], "no reference"),
    (["--objective.type", "ipo", "--objective.length_normalised"], "divides by length already"),
    (["--objective.type", "dpo", "--objective.divergence_alpha", "0.3"], "belongs to `divergence: alpha`"),
    (["--objective.type", "kto", "--objective.wpo"], "no pair"),
    (["--objective.type", "mdpo", "--objective.wpo"], "two images"),
    (["--objective.type", "mdpo", "--data.share-images"], "corrupts the image of each row"),
    (["--objective.type", "kto", "--data.share-images"], "would bring its own question along. Leave `data.share_"),
    (
        ["--objective", "mix", "--objective.parts", "{kto: 1, sft: 1}", "--data.share-images"],
        "mix. .KTO. also scores",
    ),
    (["--objective.type", "simpo", "--reference.type", "frozen-copy"], "has no reference"),
    (
        ["--objective.type", "mix", "--objective.parts", "{sft: 1, cpo: 1}", "--reference", "adapter-off"],
        "no reference",
    ),
    (["--objective.type", "orpo", "--reference.update-every", "5"], "could move"),
    (["--objective.type", "mpo", "--reference", "none"], "compares the policy with a reference"),
    (["--objective.type", "mix"], "needs `parts`"),
    (["--objective.type", "mix", "--objective.parts.sigmod", "1"], "no part `sigmod`"),
    (["--objective.type", "mix", "--objective.parts", "{dpo: -1}"], "below 0"),
    (["--objective.type", "mix", "--objective.parts", "{dpo: .nan}"], "a finite number"),
    (["--objective.type", "mix", "--objective.parts", "{dpo: 0, sft: 0}"], "nothing would be learned"),
    (["--objective.type", "kto", "--reference", "precomputed"], "answers to other prompts"),
    (["--objective.type", "mix", "--objective.parts", "{ipo: {bta: 1}}"], "no option `bta`. It takes weight, beta"),
    (
        ["--objective.type", "mix", "--objective.parts", "{dpo: 1, bco_pair: 1}", "--objective.divergence", "js"],
        "Part `bco_pair`",
    ),
    (["--objective.type", "mix", "--objective.parts", "{aot: 1}", "--objective.wpo", "true"], "sorts log-ratios"),
    (["--objective.type", "dpo", "--objective.label_smoothing", "0.5"], "from 0, below 0.5"),
]


@pytest.mark.parametrize(("flags", "reason"), REFUSED, ids=[" ".join(f) for f, _ in REFUSED])
def test_a_combination_that_means_nothing_is_refused_with_the_reason(flags, reason):
    with pytest.raises(RecipeError, match=reason):
        load_recipe(None, ["--model", "m", "--data", "d", *flags])


def test_neutral_values_of_options_are_let_through():
    assert load_recipe(None, ["--model", "m", "--data", "d", "--objective.type", "aot", "--objective.wpo", "false"])


def test_config_and_objective_agree_on_who_needs_a_reference():
    for name, kind in PART_TYPES.items():
        assert build_from({"type": name}).needs_reference == kind.needs_reference, name
    assert not build_from({"type": "mix", "parts": {"sft": 1.0, "simpo": 1.0}}).needs_reference
    assert build_from({"type": "mix", "parts": {"sft": 1.0, "dpo": 1.0}}).needs_reference


def test_every_objective_says_what_a_step_must_hold():
    expected = {"sft": 1, "dft": 1, "mix of demonstrations": 1, "kto": None, "bco": None, "bco, no shift": None}
    assert {name: build_from(options).num_responses for name, options in EVERY.items()} == {
        name: expected.get(name, 2) for name in EVERY
    }
    full_batch = {name for name, options in EVERY.items() if build_from(options).full_batch}
    assert full_batch == {"aot", "aot_unpaired", "kto", "bco", "bco_pair, shift", "mpo, shift", "mix"}


def test_a_mixture_counts_chosen_tokens_for_its_likelihood_and_pairs_for_the_rest():
    objective = build_from({"type": "mpo"})
    groups = make_groups(3, objective)
    chosen_tokens = sum(len(g.responses[0]) for g in groups)
    assert objective.counts(groups) == {"sigmoid": 3, "bco_pair": 3, "sft": chosen_tokens}
    assert objective.weights == {"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1.0}


def test_parts_that_come_with_a_part_are_named_after_it_in_a_mixture():
    objective = build_from(EVERY["mix of cpo"])
    assert objective.weights == {"cpo": 0.5, "cpo.sft": pytest.approx(0.15), "dpo": 1.0, "dpo.rpo": 0.1}


def test_kto_with_a_single_prompt_in_the_step_says_what_to_do():
    objective = build_from({"type": "kto"})
    groups = make_groups(1, build_from({"type": "dpo"}))
    policy = make_log_probs(groups, seed=1)
    with pytest.raises(DataError, match="per_device_train_batch_size"):
        objective(policy, policy, columns_of(groups))


@pytest.mark.parametrize("options", [{"type": "kto"}, {"type": "mix", "parts": {"bco": 1.0, "sft": 0.5}}])
def test_a_single_response_without_a_label_is_an_error_of_the_data(options):
    groups = make_groups(1, build_from({"type": "sft"}))
    with pytest.raises(DataError, match="`label`"):
        build_from(options).counts(groups)
