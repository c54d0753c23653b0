"""`make_pairs(recipe)`: from prompts to a data set of pairs, top to bottom.

Read the prompts, sample completions, have the recipe's rewards judge them, batch after batch into a journal; then
choose, balance, write. Choosing asks nothing: with another margin the same command takes a moment.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn
from transformers import ProcessorMixin

from sightline.config import Recipe
from sightline.config.pairs import JudgedPairsConfig, PairMakingConfig
from sightline.data.render.render import renderer_of
from sightline.errors import DataError, RecipeError, RewardError, UserError
from sightline.evaluation.models import Source
from sightline.files import RECIPE, write_text
from sightline.generation.sampling import SamplingSettings
from sightline.generation.text import CompletionText
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.pairs.choose import Counts, Judged, Summary, balance_lengths, pairs_of_prompt, summary_of
from sightline.pairs.completions import Completer, Completion
from sightline.pairs.images import prompt_rows
from sightline.pairs.journal import KEPT, Journal
from sightline.pairs.judging import Judging
from sightline.pairs.write import write_pairs
from sightline.recipe import dump_recipe, tree_of
from sightline.rewards.find import build_reward_set
from sightline.rewards.reward_set import RewardSet
from sightline.rollouts.prompts import PromptDataset
from sightline.training.arguments import device
from sightline.training.checkpoint.run_folder import explain_disk_errors
from sightline.training.online.setup import NUM_LOOKED_AT, build_sampler, check_sampler, sampling_of
from sightline.training.watch.progress import bar
from sightline.types import BadRow, Prompt

COMPLETIONS, SUMMARY = "completions.jsonl", "summary.json"


@dataclass(frozen=True, kw_only=True)
class PairsResult:
    """What was made. folder: a data set for `data.source`. seconds: of sampling and judging, this time."""

    folder: Path
    summary: Summary
    seconds: float


def make_pairs(
    recipe: Recipe,
    *,
    rewards: Sequence[Callable[..., Any]] = (),
    model: nn.Module | None = None,
    processor: ProcessorMixin | None = None,
    console: Console | None = None,
    description: str = "Completions",
) -> PairsResult:
    """Make pairs by a recipe's `model`, `data`, `sampler`, `rewards` and `pairs`, into `output_dir`.

    rewards: functions besides the recipe's. model, processor: objects in memory instead of the recipe's; what they are
    is then for the caller to keep the same when a folder is gone on with. A folder that holds some completions of the
    same recipe is gone on with. Raises `UserError` and its kinds.
    """
    console = console or Console()
    config = recipe.pairs or JudgedPairsConfig()  # pyright: ignore[reportCallIssue]
    reward_set = _rewards(recipe, rewards, config)
    folder = Path(recipe.output_dir)
    check_sampler(recipe, lambda said: console.print(said, highlight=False))
    given = model is not None
    processor = processor if processor is not None else load_processor(recipe.model)
    policy = model if model is not None else _policy(recipe)
    prompts = PromptDataset(prompt_rows(recipe), recipe.data, renderer_of(processor, recipe.data))
    if not len(prompts):
        raise DataError(f"{recipe.data.source or 'The data'} has no rows to answer.")
    if reward_set is not None and (columns := prompts.columns(NUM_LOOKED_AT)) is not None:
        reward_set.prepare(columns)
        reward_set.attach(policy, processor)
    with explain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RECIPE, dump_recipe(recipe))
        about = conditions(recipe, config, prompts, in_memory=given)
        made = Journal(folder / KEPT / COMPLETIONS, about)
        maker = _completer(recipe, config, policy, processor, prompts, console)
        judge = None if reward_set is None else Judging.of(reward_set, recipe, rewards, console)
        started = time.perf_counter()
        with _kept(folder):
            counts, judged = _all(prompts, config.batch_size, made, maker, judge, console, description)
        seconds = time.perf_counter() - started
        return _write(folder, prompts, judged, config, reward_set, counts, seconds)


def _rewards(recipe: Recipe, functions: Sequence[Callable[..., Any]], config: PairMakingConfig) -> RewardSet | None:
    """What judges completions; None for a way that needs no judge."""
    if not isinstance(config, JudgedPairsConfig):
        if functions:
            raise RecipeError("`pairs` makes its pairs without a judge, so rewards would do nothing. Leave them out.")
        return None
    if not recipe.rewards and not functions:
        raise RecipeError(
            "Nothing judges the completions. Give `rewards`, such as `{self_check: 1.0}` (the model itself) or "
            "`{claims: {url: …, model: …}}` (a server); or a way without a judge, `pairs: continue_blind`, noisy_image "
            "or omission. docs/own-pairs.md says which to use when."
        )
    return build_reward_set(recipe.rewards, functions)


def _policy(recipe: Recipe) -> nn.Module:
    """The recipe's model with the adapter that `lora.adapter` names, if any."""
    model = load_model(recipe.model, device(recipe))
    if recipe.lora is None or recipe.lora.adapter is None:
        return model
    return add_lora(model, recipe.lora).eval()


def conditions(recipe: Recipe, config: PairMakingConfig, prompts: PromptDataset, *, in_memory: bool) -> dict[str, Any]:
    """What completions depend on, plain values. Margins, balance and rewards are not among it."""
    adapter = None if recipe.lora is None else recipe.lora.adapter
    source = Source("policy", recipe.model.name, adapter, recipe.model.revision)
    tree = tree_of(replace(recipe, pairs=config))
    way = {name: tree["pairs"][name] for name in tree["pairs"] if name not in CHOOSING}
    sampler = tree["sampler"] or {"type": "transformers"}
    sampler = {name: value for name, value in sampler.items() if name not in NOT_SAMPLING}
    rows: Any = prompts.groups.rows
    return {
        "model": "in memory" if in_memory else source.origin,
        "processor": recipe.model.processor,
        "rows": [len(prompts), rows.fingerprint, rows.name(0)],
        "sampler": sampler,
        "pairs": way,
        "seed": recipe.seed,
        "data": {name: tree["data"][name] for name in ("seed", "scenes", "system", "limit", "max_length")},
    }


CHOOSING = ("margin", "max_pairs", "length_tolerance")
"""Fields of `pairs` that change no completion."""
NOT_SAMPLING = ("url", "server_timeout", "completions_steps", "gpu_memory_utilization", "sleep")
"""Fields of `sampler` that change none."""


def _completer(
    recipe: Recipe,
    config: PairMakingConfig,
    model: nn.Module,
    processor: ProcessorMixin,
    prompts: PromptDataset,
    console: Console,
) -> Completer:
    sampling = sampling_of(recipe)
    renderer = prompts.groups.renderer
    return Completer(
        sampler=build_sampler(sampling, recipe, model, processor, lambda said: console.print(said, highlight=False)),
        model=model,
        processor=processor,
        renderer=renderer,
        text_of=CompletionText.of(processor, family_of(model), renderer.template.opening),
        settings=SamplingSettings.of(sampling),
        num_generations=sampling.num_generations,
        seed=recipe.seed,
        config=config,
    )


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Within, what stops the command is told with what is kept."""
    try:
        yield
    except UserError as error:
        paragraph, line_break, stack = str(error).partition("\n")
        kept = f"What was sampled and judged so far is kept in {folder / KEPT}; the same command goes on from there."
        raise type(error)(f"{paragraph} {kept}{line_break}{stack}") if type(error) in _PLAIN else error from error


_PLAIN = (RewardError, DataError, UserError)
"""Kinds of error that are made of a paragraph alone."""


def _all(
    prompts: PromptDataset,
    batch_size: int,
    made: Journal,
    maker: Completer,
    judge: Judging | None,
    console: Console,
    description: str,
) -> tuple[Counts, dict[int, list[Judged]]]:
    """Every prompt's judged completions by its row's number: from the journals, or sampled and judged now."""
    counts, judged = Counts(prompts=len(prompts)), {}
    is_synced = False
    started, done_now = time.perf_counter(), 0
    with bar(console) as progress:
        task = progress.add_task(description, total=len(prompts), figures="")
        for number, start in enumerate(range(0, len(prompts), batch_size)):
            numbers = range(start, min(start + batch_size, len(prompts)))
            sampled_now = number not in made.records
            if sampled_now and not is_synced:
                maker.sampler.sync(maker.model)
                is_synced = True
            needs = sampled_now or (judge is not None and number not in judge.journal.records)
            items = [_item(prompts, index) for index in numbers] if needs else []
            if sampled_now:
                made.add(number, _sampled(items, prompts, maker))
            found = {int(i): [Completion(**one) for one in some] for i, some in made.records[number].items()}
            counts.bad_rows += len(numbers) - len(found)
            if judge is None:
                some = [[Judged(completion=one) for one in each] for each in found.values()]
            else:
                some = judge.judged(number, [item for item in items if isinstance(item, Prompt)], [*found.values()])
            judged.update(zip(found, some, strict=True))
            done_now += sum(one.times for each in found.values() for one in each) if needs else 0
            rate = done_now / max(time.perf_counter() - started, 1e-9)
            progress.update(task, completed=numbers[-1] + 1, figures=f"{rate:,.1f} answers/s" if done_now else "")
    maker.sampler.close()
    return counts, judged


def _item(prompts: PromptDataset, index: int) -> Prompt | BadRow:
    """The prompt at its place. Raises `DataError` for a bad row, unless bad rows are skipped."""
    item = prompts[index]
    if isinstance(item, BadRow):
        if not item.skip:
            raise DataError(item.message)
        return item
    return replace(item, place=index)


def _sampled(items: Sequence[Prompt | BadRow], prompts: PromptDataset, maker: Completer) -> dict[str, Any]:
    """A batch's completions for the journal, by the row's number; bad rows are not in it."""
    good = [item for item in items if isinstance(item, Prompt)]
    found = maker.complete(good, [prompts.groups.example(item.index) for item in good])
    return {str(item.index): [one.as_json() for one in some] for item, some in zip(good, found, strict=True)}


def _write(
    folder: Path,
    prompts: PromptDataset,
    judged: dict[int, list[Judged]],
    config: PairMakingConfig,
    rewards: RewardSet | None,
    counts: Counts,
    seconds: float,
) -> PairsResult:
    """Choose, balance, write. Raises `DataError` where no pair is left, saying what became of all."""
    weights = {} if rewards is None else {name: weight for name, weight in rewards.weights.items() if weight}
    control = prompts.groups.renderer.control

    def is_writable(text: str) -> bool:
        return bool(text) and "\0" not in text and control.search(text) is None

    before = [
        pair
        for index, some in judged.items()
        for pair in pairs_of_prompt(index, some, config, weights, counts, is_writable=is_writable)
    ]
    pairs = balance_lengths(before, config, counts)
    summary = summary_of([one for some in judged.values() for one in some], before, pairs, counts)
    if not pairs:
        said = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in counts.as_json().items() if number)
        why = (
            "On all pairs the same side is the longer one, and `pairs.length_tolerance` balances that: give null to "
            "keep them."
            if before
            else "Take more completions, a higher `sampler.temperature`, or rewards that tell completions apart."
        )
        raise DataError(f"No pair is left: {said}. {why}")
    write_pairs(folder, pairs, prompts)
    write_text(folder / KEPT / SUMMARY, json.dumps(summary.as_json(), indent=2) + "\n")
    return PairsResult(folder=folder, summary=summary, seconds=seconds)
