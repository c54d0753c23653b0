"""The same log-probs through TRL 1.16's own trainers give the same loss, gradient and metrics."""

from dataclasses import replace

import pytest
import torch

from sightline.objectives.roles import MISMATCHED, ORDINARY, of_role
from sightline.types import LogProbs
from tests.objectives.every import build_from
from tests.objectives.made_steps import columns_of, make_groups, make_log_probs, total_loss
from tests.objectives.trl_driver import trl_dpo, trl_kto, trl_sft

SMOOTHED = {"label_smoothing": 0.1}
PLAIN = {
    "dpo": ("sigmoid", {}, {}),
    "robust": ("robust", SMOOTHED, SMOOTHED),
    "hinge": ("hinge", {}, {}),
    "ipo": ("ipo", {}, {}),
    "exo_pair": ("exo_pair", {"label_smoothing": 1e-3}, {}),
    "nca_pair": ("nca_pair", {}, {}),
    "bco_pair": ("bco_pair", {}, {}),
    "sppo_hard": ("sppo_hard", {}, {}),
    "aot": ("aot", {}, {}),
    "aot, smoothed": ("aot", SMOOTHED, SMOOTHED),
    "aot_unpaired": ("aot_unpaired", {}, {}),
    "aot_unpaired, smoothed": ("aot_unpaired", SMOOTHED, SMOOTHED),
    "apo_zero": ("apo_zero", {}, {}),
    "apo_down": ("apo_down", {}, {}),
    "discopop": ("discopop", {}, {}),
    "sigmoid_norm": ("sigmoid_norm", {}, {}),
}
CASES = {name: (trl, options, {"type": name.split(",")[0], **ours}) for name, (trl, options, ours) in PLAIN.items()}
CASES |= {
    f"{name}, ld": (trl, {**options, "ld_alpha": 0.3}, {"type": name, "ld_alpha": 0.3, **ours})
    for name, (trl, options, ours) in PLAIN.items()
    if "," not in name
}
CASES |= {
    f"{name}, wpo": (trl, {**options, "use_weighting": True}, {"type": name, "wpo": True, **ours})
    for name, (trl, options, ours) in PLAIN.items()
    # TRL refuses aot here; its hinge fails in backward, weighted in place ("modified by an inplace operation")
    if not name.startswith(("aot", "hinge"))
}
DIVERGENCES = {"forward_kl": "forward_kl", "js_divergence": "js", "alpha_divergence": "alpha"}
CASES |= {
    f"{name}, {divergence}": (
        PLAIN[name][0],
        {**PLAIN[name][1], "f_divergence_type": divergence},
        {"type": name, "divergence": ours, **PLAIN[name][2]},
    )
    for name in ("dpo", "robust", "hinge", "ipo", "exo_pair", "discopop", "sigmoid_norm")
    for divergence, ours in DIVERGENCES.items()
}
CASES |= {
    "mpo": (["sigmoid", "bco_pair", "sft"], {"loss_weights": [0.8, 0.2, 1.0]}, {"type": "mpo"}),
    "mix": (
        ["hinge", "ipo", "sft"],
        {"loss_weights": [0.3, 2.0, 0.5], "beta": 0.4},
        {"type": "mix", "parts": {"hinge": 0.3, "ipo": 2.0, "sft": 0.5}, "beta": 0.4},
    ),
    "dpo, beta": ("sigmoid", {"beta": 0.5}, {"type": "dpo", "beta": 0.5}),
    "alpha 0.2": (
        "sigmoid",
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.2},
        {"type": "dpo", "divergence": "alpha", "divergence_alpha": 0.2},
    ),
}


def agree(ours, theirs) -> None:
    """To 1e-5 of the larger of value and 1."""
    assert torch.allclose(ours.float(), theirs.float(), rtol=1e-5, atol=1e-5)


def means(losses) -> dict[str, float]:
    return {name: float(s / n) for loss in losses.values() for name, (s, n) in loss.metrics.items()}


@pytest.mark.parametrize(("trl_type", "trl_options", "options"), CASES.values(), ids=CASES)
def test_pair_losses_gradients_and_metrics_agree_with_trl(trl_type, trl_options, options):
    objective = build_from(options)
    groups = make_groups(5, objective, segments=False)
    dtype = torch.float32  # TRL's alpha divergence knows no float64
    policy, reference = make_log_probs(groups, seed=1, dtype=dtype), make_log_probs(groups, seed=2, dtype=dtype)
    theirs, their_metrics = trl_dpo(policy, reference, trl_type, **trl_options)
    (their_gradient,) = torch.autograd.grad(theirs, policy.logp)
    ours = total_loss(objective, groups, policy, reference)
    (our_gradient,) = torch.autograd.grad(ours, policy.logp)
    agree(ours, theirs)
    agree(our_gradient, their_gradient)
    if trl_options.get("ld_alpha") is None:  # with LD-DPO TRL logs log-probs of the shortened responses
        our_metrics = means(objective(policy, reference, columns_of(groups)))
        del their_metrics["num_tokens"]
        assert their_metrics == pytest.approx({name: our_metrics[name] for name in their_metrics}, abs=1e-5)


def test_reward_accuracy_differs_from_trl_only_in_ties():
    objective = build_from({"type": "dpo"})
    groups = make_groups(4, objective, segments=False)
    policy = make_log_probs(groups, seed=1)
    _, theirs = trl_dpo(policy, policy, "sigmoid")
    ours = means(objective(policy, policy, columns_of(groups)))
    assert (theirs["rewards/accuracies"], ours["rewards/accuracies"]) == (0.0, 0.5)


@pytest.mark.parametrize("weights", [{}, {"desirable_weight": 1.3, "undesirable_weight": 0.7, "beta": 0.5}])
def test_kto_agrees_with_trl(weights):
    objective = build_from({"type": "kto", **weights})
    groups = make_groups(5, objective, segments=False)
    label = torch.tensor([1, 0, 0, 1, 1, 1, 0, 0, 1, 1]).bool()
    groups = [
        replace(group, columns=replace(group.columns, label=torch.cat([pair, torch.tensor([False])])))
        for group, pair in zip(groups, label.split(2), strict=True)
    ]
    policy, reference = make_log_probs(groups, seed=1), make_log_probs(groups, seed=2)
    columns = columns_of(groups)
    parts = [of_role(p, columns, role) for role in (ORDINARY, MISMATCHED) for p in (policy, reference)]
    theirs, their_metrics = trl_kto(*parts, label, **weights)
    (their_gradient,) = torch.autograd.grad(theirs, policy.logp)
    ours = total_loss(objective, groups, policy, reference)
    (our_gradient,) = torch.autograd.grad(ours, policy.logp)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    assert torch.allclose(our_gradient, their_gradient, atol=1e-12)
    our_metrics = means(objective(policy, reference, columns))
    compared = {name: value for name, value in their_metrics.items() if name in our_metrics}
    assert compared == pytest.approx({name: our_metrics[name] for name in compared}, abs=1e-9)
    assert set(their_metrics) - set(compared) == {"num_tokens", "rewards/margins"}


@pytest.mark.parametrize(("ours", "trl_type"), [("sft", "nll"), ("dft", "dft")])
def test_likelihood_losses_agree_with_trl(ours, trl_type):
    objective = build_from({"type": ours})
    groups = make_groups(5, objective, segments=False)
    policy = make_log_probs(groups, seed=1)
    theirs, their_metrics = trl_sft(policy, trl_type)
    (their_gradient,) = torch.autograd.grad(theirs, policy.logp)
    loss = total_loss(objective, groups, policy, None)
    (our_gradient,) = torch.autograd.grad(loss, policy.logp)
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-12)
    assert torch.allclose(our_gradient, their_gradient, atol=1e-12)
    our_metrics = means(objective(policy, None, columns_of(groups)))
    assert our_metrics == pytest.approx({name: their_metrics[name] for name in our_metrics}, abs=1e-6)


def logits_of(groups, seed: int, vocabulary: int = 7) -> tuple[torch.Tensor, torch.Tensor, LogProbs]:
    """Logits and labels of padded rows, one prompt token and then the response, and the log-probs they give."""
    layout = make_log_probs(groups, seed=0)
    lengths = torch.tensor([len(r) for g in groups for r in g.responses])
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), int(lengths.max()) + 1)
    logits = torch.randn(*shape, vocabulary, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, vocabulary, shape, generator=generator)
    scored = (torch.arange(shape[1]) >= 1) & (torch.arange(shape[1]) <= lengths[:, None])
    labels = labels.masked_fill(~scored, -100)
    table = logits[:, :-1].log_softmax(-1)
    logp = table.gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0][scored[:, 1:]]
    return logits, labels, replace(layout, logp=logp)


def trl_without_reference(trainer_class, logits, labels, **attributes):
    """`get_batch_loss_metrics` of TRL's CPO and ORPO trainers on given logits."""
    from types import SimpleNamespace

    from accelerate import Accelerator

    order = torch.cat([torch.arange(0, len(labels), 2), torch.arange(1, len(labels), 2)])
    scored = labels[order] != -100
    first = torch.zeros_like(scored)
    first[:, 0] = True
    batch = {
        "concatenated_input_ids": labels[order].clamp(min=0),
        "concatenated_attention_mask": (scored | first).long(),
        "concatenated_labels": labels[order],
    }
    trainer = SimpleNamespace(
        accelerator=Accelerator(cpu=True),
        is_encoder_decoder=False,
        aux_loss_enabled=False,
        pad_token_id=0,
        padding_value=0,
        get_batch_logps=trainer_class.get_batch_logps,
        concatenated_inputs=lambda *given, **options: batch,
        **attributes,
    )
    for name in ("concatenated_forward", "cpo_loss", "odds_ratio_loss"):
        if hasattr(trainer_class, name):
            setattr(trainer, name, getattr(trainer_class, name).__get__(trainer))
    model = lambda *given, **options: SimpleNamespace(logits=logits[order])  # noqa: E731
    halves = {"chosen_labels": labels[0::2], "rejected_labels": labels[1::2]}
    return trainer_class.get_batch_loss_metrics(trainer, model, halves)


CPO = {"alpha": 0.0, "label_smoothing": 0.0}
FREE = {
    "simpo": ({"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0, **CPO}, {"type": "simpo"}),
    "cpo": ({"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0, **CPO}, {"type": "cpo"}),
    "cpo, smoothed": (
        {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 0.3, **CPO, "label_smoothing": 0.1},
        {"type": "cpo", "sft_weight": 0.3, "label_smoothing": 0.1},
    ),
    "orpo": ({"beta": 0.1}, {"type": "orpo"}),
}


@pytest.mark.parametrize(("settings", "options"), FREE.values(), ids=FREE)
def test_losses_without_reference_agree_with_trl(settings, options):
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    objective = build_from(options)
    groups = make_groups(5, objective, segments=False)
    logits, labels, policy = logits_of(groups, seed=4)
    trainer_class = ORPOTrainer if options["type"] == "orpo" else CPOTrainer
    theirs, their_metrics = trl_without_reference(trainer_class, logits, labels, **settings)
    (their_gradient,) = torch.autograd.grad(theirs, logits, retain_graph=True)
    ours = total_loss(objective, groups, policy, None)
    (our_gradient,) = torch.autograd.grad(ours, logits)
    agree(ours, theirs)
    agree(our_gradient, their_gradient)
    our_metrics = means(objective(policy, None, columns_of(groups)))
    names = ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"]
    assert [our_metrics[n] for n in names] == pytest.approx([their_metrics[n] for n in names], abs=1e-5)
