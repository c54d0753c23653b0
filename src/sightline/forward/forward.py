"""Batch -> LogProbs, by exactly one call of the model as it is wrapped.

For that call the output embedding's `forward` is replaced: it picks the hidden states that predict a target, and what
the model returns as `.logits` is [1, targets, n] of log-probs and statistics. Logits of [tokens × vocabulary] never
exist, and DDP, FSDP and peft see one ordinary forward, so that gradients are synchronised.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from sightline.attention import flex
from sightline.errors import ModelError
from sightline.forward.experts import counting_shared_tokens
from sightline.forward.features import Features
from sightline.forward.head import token_log_probs
from sightline.forward.last_layer import only_what_is_read, replaced_forward
from sightline.layout import order
from sightline.models.families.family import Family, features_counted, fitting_images
from sightline.models.families.find import family_of
from sightline.models.unwrap import is_compiled
from sightline.types import Batch, Group, LogProbs


def log_probs(
    model: nn.Module,
    batch: Batch,
    *,
    groups: list[Group],
    features: Features | None,
    statistics: bool = False,
    temperature: float = 1.0,
) -> LogProbs:
    """What the model says of the batch's targets; differentiable.

    model: wrapped or bare; called once. groups: those that the batch was laid out from, in the same order.
    features: of the same groups, from `features.encode`; None sends their pixels through the model.
    statistics: also entropy, top-1, mean logit and log Σ p². temperature: of the distribution scored.
    """
    family = family_of(model)
    prompts = order(batch.on_host)
    if family.text_config._attn_implementation in flex.NAMES:
        batch = flex.filled_up(batch.on_host)
    batch = batch.to(family.model.device)
    in_grid = [groups[g] for g in prompts]
    if features is None:
        images = family.pixels(in_grid, batch)
    else:
        images = features.family.join([features.pieces[g] for g in prompts], batch)
    # pixel inputs may repeat a grid that counts positions
    inputs = {**family.grid_inputs(batch, in_grid), **images}
    trains_routers = family.router_coefficient != 0 and torch.is_grad_enabled()
    if trains_routers:
        inputs["output_router_logits"] = True
    with ExitStack() as stack:
        stack.enter_context(fitting_images())
        stack.enter_context(family.calling(batch, in_grid))
        if features is not None:
            stack.enter_context(features_counted(family.model))
        if trains_routers and batch.position_ids is not None:
            stack.enter_context(counting_shared_tokens(family, batch))
        if batch.position_ids is not None and not is_compiled(model):
            # the padded layout stays as plain as it can be: it is what others are compared with
            stack.enter_context(only_what_is_read(family, batch))
        spread = isinstance(model, FSDPModule)
        scored = stack.enter_context(_scoring(family, batch, statistics, temperature, touch_vision=spread))
        output = model(input_ids=family.embedded_ids(batch), use_cache=False, **inputs)
    found = _log_probs(batch, _unaltered(output.logits, scored, family), statistics)
    return replace(found, router_loss=family.router_coefficient * output.aux_loss) if trains_routers else found


@contextmanager
def _scoring(
    family: Family, batch: Batch, statistics: bool, temperature: float, *, touch_vision: bool
) -> Iterator[list[Tensor]]:
    """Within, the output embedding returns statistics of the batch's targets; the list receives what it returned.

    touch_vision: add zero times the trained weights that only images reach (some of them not even those: the last
    layers of a tower whose earlier one is read). FSDP2 reduces the weights that have a gradient, and they must be the
    same in all processes, whoever has rows with images.
    """
    head, softcap, scale = output_head(family), family.softcap, family.logit_scale
    bias = head.bias
    if (never := family.never_predicted) is not None:
        bias = torch.zeros_like(head.weight[:, 0]) if bias is None else bias
        bias = bias.detach().index_fill(0, never.to(bias.device), torch.finfo(bias.dtype).min)
    scored: list[Tensor] = []

    def score(hidden: Tensor) -> Tensor:
        rows = hidden.flatten(0, -2)[batch.predictor] * scale
        found = token_log_probs(
            rows,
            head.weight,
            bias,
            batch.target,
            temperature=temperature,
            softcap=softcap,
            statistics=statistics,
        )
        columns = [column.to(found.logp.dtype) for column in found if column is not None]
        if touch_vision:
            columns[0] = sum((0.0 * weight.sum() for weight in reached_by_images(family)), start=columns[0])
        scored.append(torch.stack(columns, -1)[None])
        return scored[-1]

    # the head has applied the cap already; the model must not do so to log-probs
    with family.uncapped(), replaced_forward(head, score):
        yield scored


def reached_by_images(family: Family) -> list[nn.Parameter]:
    """The trained weights that get no gradient from rows without images."""
    trained = ((name, weight) for name, weight in family.model.named_parameters() if weight.requires_grad)
    return [w for name, w in trained if family.part_of(name) in ("vision", "projector") or "cross_attn" in name]


def is_plain_linear(module: nn.Module | None) -> TypeGuard[nn.Linear]:
    """Whether it is torch's own linear layer, as it is or with its weight spread by FSDP2 (which renames its class)."""
    return type(module) is nn.Linear or (isinstance(module, FSDPModule) and isinstance(module, nn.Linear))


def output_head(family: Family) -> nn.Linear:
    """The model's output embedding. Raises ModelError where it is not a plain linear layer (adapted, quantised)."""
    head = family.model.get_output_embeddings()
    if not is_plain_linear(head):
        raise ModelError(
            f"The output embedding of this {family.name} model is a {type(head).__name__}, not a plain "
            "linear layer; log-probs are computed from its weight. Leave `lm_head` out of `lora.target_modules` (and "
            "of the adapter that is trained further), and do not quantise it."
        )
    return head


def _unaltered(logits: Tensor, scored: list[Tensor], family: Family) -> Tensor:
    """What the head returned, if that is what came out: a model that rescales its logits would falsify log-probs."""
    # DDP hands outputs on as copies, so a copy of the same numbers is what the head returned
    scale = family.logit_scale
    rescaled = scale != 1.0 or family.softcap is not None
    if rescaled and len(scored) == 1 and torch.allclose(logits, scored[0] * scale, rtol=1e-4, equal_nan=True):
        return logits / scale
    if len(scored) != 1 or not (logits.data_ptr() == scored[0].data_ptr() or _same(logits, scored[0])):
        raise ModelError(
            f"{type(family.model).__name__} changes its logits after the output embedding (scaling or capping) in a "
            "way that is not known here, so that its log-probs would be wrong. Train a model of one of the families "
            "that docs/models.md lists."
        )
    return logits


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _log_probs(batch: Batch, values: Tensor, statistics: bool) -> LogProbs:
    logp, *others = values[0].unbind(-1)
    known = {
        "logp": logp,
        "weight": batch.weight,
        "response": batch.response,
        "response_group": batch.response_group,
        "num_groups": batch.num_groups,
    }
    if not statistics:
        return LogProbs(**known)
    entropy, top1, mean_logit, log_sum_sq = (other.detach() for other in others)
    return LogProbs(**known, entropy=entropy, top1=top1.bool(), mean_logit=mean_logit, log_sum_sq=log_sum_sq)
