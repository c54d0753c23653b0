"""The online trainer: prompts in, completions sampled and rewarded inside the step, and from there the offline step.

The library's loader only counts steps here; prompts come from `PromptStream`, because one round of sampling may serve
several steps, and one step may need several rounds. What is sampled depends on seed, prompt and weights alone, so that
a resumed run goes on as the stopped one would have, and any number of processes samples the same completions.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from sightline.config.online import SamplingConfig
from sightline.data.stream.loader_workers import FinishesStepOnTermination
from sightline.errors import UserError
from sightline.generation.sampling import SamplingSettings
from sightline.rollouts.prompts import PromptDataset, PromptStream
from sightline.training.checkpoint.contents import PartOf
from sightline.training.checkpoint.files import how_to_continue
from sightline.training.online.off_policy import correction, stale
from sightline.training.online.rewards import RewardStats, advantages_of, round_metrics
from sightline.training.online.rollouts import Reuse, Rollout, RolloutCollector, Seconds
from sightline.training.online.tables import completion_rows, completions_path, write_completions
from sightline.training.step.scoring import Scored, score_before_update
from sightline.training.trainer import AlignmentTrainer
from sightline.types import BadRow, Columns, Group, Prompt


class Steps(Dataset):
    """As many items as prompts to be trained on: the library's loop counts steps and epochs by them."""

    def __init__(self, num_prompts: int, num_iterations: int) -> None:
        self.length = num_prompts * num_iterations

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> None:
        return None


class OnlineTrainer(AlignmentTrainer):
    """Trains a policy on its own completions.

    collector: sampler and rewards. sampling: the recipe's sampler. prompts: the rows to answer. folder: of the run.
    """

    def __init__(
        self,
        *,
        collector: RolloutCollector,
        sampling: SamplingConfig,
        prompts: PromptDataset,
        folder: Path,
        **options: Any,
    ) -> None:
        super().__init__(train_dataset=Steps(len(prompts), sampling.num_iterations), **options)
        self.collector, self.sampling, self.folder = collector, sampling, folder
        self.settings = replace(self.settings, temperature=sampling.temperature)
        self.sampling_settings = SamplingSettings.of(sampling)
        self.prompts = prompts
        self.stream = PromptStream(
            prompts,
            seed=self.args.seed,
            shuffle=self.shuffle,
            num_workers=self.args.dataloader_num_workers,
            rank=self.settings.process_index,
            world=self.settings.num_processes,
        )
        self.rows_seen.bad = self.stream.bad_rows
        self.reuse = Reuse(sampling.steps_per_generation, sampling.num_iterations)
        self.position = 0
        self.is_evaluation_due = False
        self.parts["online"] = PartOf(self._place, self._return_to)

    def get_train_dataloader(self) -> DataLoader:
        """Counts steps; nothing is read."""
        assert isinstance(self.train_dataset, Steps)
        size = self.args.per_device_train_batch_size * self.settings.num_processes
        return DataLoader(self.train_dataset, batch_size=size)

    def batches(self, number: int, first: int) -> Iterable[dict[str, list]]:
        """Nothing for each step of a pass from step `first` on: `training_step` takes prompts by itself."""
        return ({} for _ in range(first, self.steps_per_pass))

    def training_step(
        self, model: nn.Module, inputs: dict[str, list], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One optimizer step's gradient, with a round of sampling before it where the last one is used up.

        Raises `RewardError` and `SamplerError`, after a checkpoint of the steps done so far.
        """
        if self.is_evaluation_due:  # after the step before, where the run stopped in it
            self.evaluate_with_all_weights()
        seconds = Seconds()
        if self.reuse.is_used_up:
            with self.engine.gathered():
                self._new_round(model, seconds)
        groups = self.reuse.take()
        started = time.perf_counter()
        loss = self.gradient_of(model, groups)
        if loss.is_cuda:
            torch.cuda.synchronize()  # or the update's time would be booked to the next round of sampling
        seconds.spent("update", started)
        self.means.add({f"seconds/{name}": (value, 1.0) for name, value in vars(seconds).items()})
        return loss

    def _new_round(self, model: nn.Module, seconds: Seconds) -> None:
        """Sample, reward, form advantages, and put the groups where the next steps take them."""
        self.position = self.stream.position
        problem, rollouts, tried, logged = None, [], [], {}
        try:
            started = time.perf_counter()
            self.collector.sampler.sync(model)
            seconds.spent("sync", started)
            rollouts, tried, logged = self._collect(seconds)
        except UserError as error:
            problem = error
        self._stop_if_any(problem)
        self.reuse.fill(*self._groups(model, rollouts))
        self._log_round(tried, logged)
        self.position = self.stream.position

    def _groups(self, model: nn.Module, rollouts: list[Rollout]) -> tuple[list[Group], list[int]]:
        """What the round's completions are to the objective, and the rows that their prompts came from."""
        groups = [each.as_group() for each in rollouts]
        scored = self._score(model, groups)
        self._stop_if_any(stale(rollouts, [one.old for one in scored if one.old is not None], self.sampling))
        ratios = [one.log_ratio_to_reference for one in scored]
        stats = RewardStats.of(rollouts, len(self.collector.rewards.names))
        advantages = advantages_of(stats, ratios, self.objective, self.settings)
        for i, (advantage, one) in enumerate(zip(advantages, scored, strict=True)):
            columns = Columns(advantage=advantage)
            if one.old is not None:
                weights, figures = correction(rollouts[i], one.old, self.sampling)
                columns = replace(columns, old_logp=one.old.logp, importance_weight=weights)
                self.means.add({name: (value, 1.0) for name, value in figures.items()})
            groups[i] = rollouts[i].as_group(columns)
        self._write_completions(rollouts, advantages)
        return groups, [each.prompt.index for each in rollouts]

    def _collect(self, seconds: Seconds) -> tuple[list[Rollout], list[Rollout], dict[str, float]]:
        """A round's prompts with completions and rewards, everything that was tried for it, and what rewards logged.

        With dynamic sampling, prompts whose completions all have the same reward make room for others, as often as the
        recipe allows; then they are taken after all, so that every step has its size.
        """
        wanted = self.args.per_device_train_batch_size * self.sampling.steps_per_generation
        kept: list[Rollout] = []
        flat: list[Rollout] = []
        logged: dict[str, float] = {}
        rounds = self.sampling.dynamic_sampling_rounds
        for _ in range(1 + rounds):
            started = time.perf_counter()
            prompts = self.stream.take(wanted - len(kept))
            seconds.spent("wait", started)
            answered, said = self.collector.collect(
                prompts,
                self.sampling.num_generations,
                self.sampling_settings,
                seed=self.args.seed,
                seconds=seconds,
                trainer_state=self.state,
            )
            logged |= said
            same = self._without_signal(answered) if rounds else [False] * len(answered)
            kept += [each for each, is_flat in zip(answered, same, strict=True) if not is_flat]
            flat += [each for each, is_flat in zip(answered, same, strict=True) if is_flat]
            if len(kept) == wanted:
                break
        return [*kept, *flat][:wanted], [*kept, *flat], logged

    def _without_signal(self, answered: list[Rollout]) -> list[bool]:
        """Which of these prompts teach nothing: all completions have the same reward."""
        return RewardStats.of(answered, len(self.collector.rewards.names)).flat.tolist()

    def _score(self, model: nn.Module, groups: list[Group]) -> list[Scored]:
        """Log-probs that only can be had before the update, where something needs them."""
        kl_in_reward = self.objective.kl_in_reward > 0
        needed = self.reuse.num_steps > 1 or not self.collector.sampler.exact or kl_in_reward
        if not needed:
            return [Scored() for _ in groups]
        return score_before_update(model, groups, self.settings, self.reference if kl_in_reward else None)

    def _log_round(self, tried: list[Rollout], logged: dict[str, float]) -> None:
        names = self.collector.rewards.names
        stats = RewardStats.join(self.settings.gather(RewardStats.of(tried, len(names))))
        if self.is_world_process_zero():
            figures = round_metrics(stats, names) | logged
            self.means.add({name: (value, 1.0) for name, value in figures.items()})

    def _write_completions(self, rollouts: list[Rollout], advantages: list[Tensor]) -> None:
        step, every = self.state.global_step + 1, self.sampling.completions_steps
        last_step = self.state.global_step + self.reuse.num_steps
        if every is None or last_step // every == self.state.global_step // every:
            return
        rows = completion_rows(rollouts, [one.tolist() for one in advantages], self.collector.rewards.names, step)
        everywhere = self.settings.gather(rows)
        if self.is_world_process_zero():
            write_completions(completions_path(self.folder, step), [row for part in everywhere for row in part])

    def _stop_if_any(self, problem: UserError | None) -> None:
        """Stop all processes when one has a problem, with a checkpoint of what is done."""
        problems = [one for one in self.settings.gather(str(problem) if problem else None) if one]
        if not problems:
            return
        if self.state.global_step > 0 and self.model is not None:
            self.save_checkpoint()
        stop = problem or UserError(f"Another process stopped: {problems[0]}")
        # after the paragraph comes where in a reward's function it happened
        paragraph, line_break, stack = str(stop).partition("\n")
        raise type(stop)(f"{paragraph} {how_to_continue(self.folder)}{line_break}{stack}") from problem

    def held_out_figures(self, dataset: Dataset) -> dict[str, float]:
        """Rewards of one greedy completion to each held-out prompt."""
        assert isinstance(dataset, PromptDataset) and self.model_wrapped is not None
        problem, rollouts = None, []
        self.is_evaluation_due = True  # says a checkpoint that is written because it failed
        try:
            self.collector.sampler.sync(self.model_wrapped)
            rollouts = self._greedy_completions(dataset)
        except UserError as error:
            problem = error
        self._stop_if_any(problem)
        self.is_evaluation_due = False
        names = self.collector.rewards.names
        figures = round_metrics(RewardStats.join(self.settings.gather(RewardStats.of(rollouts, len(names)))), names)
        # of one completion a prompt there is no spread
        return {name: value for name, value in figures.items() if not name.endswith(("_std", "/std"))}

    def _greedy_completions(self, dataset: PromptDataset) -> list[Rollout]:
        """One completion to each of this process's prompts."""
        rollouts = []
        mine = range(self.settings.process_index, len(dataset), self.settings.num_processes)
        loader = DataLoader(
            Subset(dataset, mine),
            batch_size=self.args.per_device_eval_batch_size * self.sampling.num_generations,
            collate_fn=list,
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=FinishesStepOnTermination(),
        )
        greedy = replace(self.sampling_settings, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0)
        for items in loader:
            self.rows_seen.see_bad([item for item in items if isinstance(item, BadRow)])
            prompts = [item for item in items if isinstance(item, Prompt)]
            answered, _ = self.collector.collect(
                prompts, 1, greedy, seed=0, seconds=Seconds(), trainer_state=self.state
            )
            rollouts += answered
        return rollouts

    def rows_trained_on(self) -> PromptDataset:
        """The prompts; the library's own data set only counts steps."""
        return self.prompts

    def close(self) -> None:
        """End the workers that read prompts, and the sampler."""
        self.stream.close()
        self.collector.sampler.close()

    def _place(self) -> dict[str, Any]:
        """The place among the prompts, completions that steps to come will use, and an evaluation that is missing."""
        completions = None if self.reuse.is_used_up else self.reuse.state()
        return {"position": self.position, "answers": completions, "is_evaluation_due": self.is_evaluation_due}

    def _return_to(self, place: dict[str, Any]) -> None:
        """Go on from what `_place` gave."""
        self.position = place["position"]
        self.stream.seek(self.position)
        self.is_evaluation_due = place["is_evaluation_due"]
        if place["answers"] is not None:
            self.reuse.load_state(place["answers"], self.prompts)
