"""A plan as text of at most 80 columns."""

import re
import shlex
import textwrap
from typing import Any, get_args

import yaml

from sightline.memory.estimate import What, reference_mode
from sightline.memory.planner import RESERVE, Fit
from sightline.memory.report import Plan, Sum
from sightline.models.load import trained_share

WIDTH = 80
NAMES: dict[What, str] = {
    "weights": "weights",
    "reference": "reference",
    "gradients": "gradients",
    "optimiser": "optimizer states",
    "activations": "activations, highest",
}


def plan_page(plan: Plan, command: str) -> str:
    """The page that `sightline plan` prints. command: what was planned, as it would stand after `sightline train`."""
    blocks = [_model(plan), _by_hand(plan), _needs(plan), _why_less(plan)]
    if plan.gpu is not None:
        blocks.append(_on_gpu(plan, command))
    return "\n\n".join(blocks)


def _model(plan: Plan) -> str:
    parts = ", ".join(f"{part} {number:,}" for part, number in plan.by_part.items() if part != "adapter")
    lengths = [len(response) for response in plan.row.responses]
    rows = plan.recipe.per_device_train_batch_size
    return "\n".join(
        [
            _wrap(f"{plan.name}, {plan.recipe.objective.type}: {plan.parameters:,} parameters", ""),
            _wrap(f"{parts}."),
            _wrap(
                f"The recipe trains {trained_share(plan.trained, sum(plan.by_part.values()))}. LoRA on all linear "
                "layers, vision tower included, would train "
                f"{trained_share(plan.trained_everywhere, plan.parameters + plan.trained_everywhere)}."
            ),
            _wrap(
                f"A row: {len(plan.row.prompt_ids):,} prompt tokens, {len(lengths)} responses of {max(lengths)}. "
                f"{rows} {'row' if rows == 1 else 'rows'} a micro-batch."
            ),
        ]
    )


def _by_hand(plan: Plan) -> str:
    lines = [f"{'BY HAND, as the articles do':<54}{'nominal':>12}{'exact':>14}"]
    for hand in plan.hand:
        lines += [f"  {hand.title}", *_terms(hand)]
    return "\n".join(lines)


def _terms(hand: Sum) -> list[str]:
    rows = [(term.name, term.formula, term.nominal, term.exact) for term in hand.terms]
    return [
        f"    {name:<18}{formula:>32}{size(nominal):>12}{size(exact):>14}"
        for name, formula, nominal, exact in [*rows, ("total", "", hand.nominal, hand.exact)]
    ]


def _needs(plan: Plan) -> str:
    lines = [f"{'SIGHTLINE, this recipe':<70}{size(plan.estimate.peak):>10}"]
    for what in get_args(What):
        found = [line for line in plan.estimate.lines if line.what == what]
        if not found:
            continue
        lines.append(f"  {NAMES[what]:<68}{size(plan.estimate.of(what)):>10}")
        for line in found:
            head = f"    {line.part:<20} " if line.part else "    "
            *above, last = textwrap.wrap(line.formula, WIDTH - 11, initial_indent=head, subsequent_indent=" " * 25)
            lines += [*above, f"{last:<70}{size(line.bytes):>10}"]
    return "\n".join(lines)


def _why_less(plan: Plan) -> str:
    said = []
    if plan.estimate.of("reference") == 0 and any(line.what == "reference" for line in plan.estimate.lines):
        how = {
            "adapter-off": "the reference is the policy with its adapter switched off",
            "precomputed": "the reference's log-probs are read from disk",
        }[reference_mode(plan.recipe)]
        said.append(f"No second model: {how}.")
    if not plan.recipe.model.freeze_vision or plan.recipe.lora is None:
        said.append("Trained weights, gradients and states are float32: in bfloat16 small updates round to nothing.")
    if len(plan.row.responses) > 1:
        said.append("The prompt and its image are computed once for all responses.")
    said.append(
        f"Log-probs are computed in pieces: {size(plan.logits)} of float32 logits, one for every position and word, "
        "never exist."
    )
    return "\n".join(["WHY NOT MORE", *(_wrap(sentence) for sentence in said)])


def _on_gpu(plan: Plan, command: str) -> str:
    assert plan.gpu is not None
    room = plan.gpu - RESERVE
    what = f"{size(plan.gpu)}" if plan.gpus == 1 else f"{plan.gpus} × {size(plan.gpu)}"
    lines = [f"ON {what} ({size(RESERVE)} of it left to CUDA)"]
    if plan.fits:
        return "\n".join([*lines, _wrap(f"Fits, with {size(room - plan.estimate.peak)} to spare.")])
    lines.append(_wrap(f"Does not fit: {size(plan.estimate.peak - room)} too much."))
    if plan.fit is None:
        advice = (
            "Nothing known here makes it fit. Left: smaller images (`model.processor`), more GPUs, a smaller model."
        )
        return "\n".join([*lines, _wrap(advice)])
    return "\n".join([*lines, *_changes(plan, plan.fit, command)])


def _changes(plan: Plan, fit: Fit, command: str) -> list[str]:
    lines = [_wrap(f"The cheapest change that fits, at {size(fit.peak)}:")]
    lines += [_wrap(f"- {change.why}", "    ", "      ") for change in fit.changes]
    lines += ["", *difference(plan, fit), ""]
    lines += _shell(
        [*re.split(r" (?=--)", f"sightline train {command}"), *(_flag(key, value) for key, value in fit.fields.items())]
    )
    return lines


def _shell(pieces: list[str]) -> list[str]:
    """A command as a shell takes it, a backslash at the end of every line but the last."""
    lines = [""]
    for piece in filter(None, pieces):
        longer = f"{lines[-1]} {piece}" if lines[-1] else piece
        if len(longer) > WIDTH - 4 and lines[-1]:
            lines[-1] += " \\"
            longer = f"    {piece}"
            lines.append("")
        lines[-1] = longer
    return [f"  {line}" for line in lines]


def difference(plan: Plan, fit: Fit) -> list[str]:
    """The change as lines of the recipe, old ones with − and new ones with +."""
    lines = []
    for key, value in fit.fields.items():
        old = plan.recipe
        for name in key.split("."):
            old = getattr(old, name)
        if old is not None:
            lines.append(f"  - {key}: {_yaml(old)}")
        lines.append(f"  + {key}: {_yaml(value)}")
    return lines


def lines_of(fields: dict[str, Any]) -> list[str]:
    """Changed keys as one would write them in a recipe, `key: value`."""
    return [f"`{key}: {_yaml(value)}`" for key, value in fields.items()]


def flags_of(fields: dict[str, Any]) -> str:
    """Changed keys as flags of `sightline train`."""
    return " ".join(_flag(key, value) for key, value in fields.items())


def _flag(key: str, value: Any) -> str:
    name = "--" + key.replace("_", "-")
    if isinstance(value, dict):
        return " ".join(_flag(f"{key}.{inner}", v) for inner, v in value.items())
    return f"{name} {shlex.quote(_yaml(value))}"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def _wrap(text: str, first: str = "  ", rest: str = "  ") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False
    )


def size(number: float | int) -> str:
    """Bytes as GB of 10⁹, MB below one."""
    return f"{number / 1e9:,.1f} GB" if number >= 0.95e9 else "0" if number == 0 else f"{number / 1e6:,.1f} MB"
