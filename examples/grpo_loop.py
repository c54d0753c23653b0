"""GRPO and GSPO in one flat file: Sightline's functions, no trainer.

    python examples/grpo_loop.py --model embedded --data prompts.parquet --reward accuracy --output-dir runs/loop
    python examples/grpo_loop.py … --reward my_rewards.py:brevity --ratio answer --iterations 2      GSPO

What the trainer adds and this leaves out: several rewards, vLLM, dynamic sampling, held-out prompts, checkpoints and
resume, many processes. The curve is the trainer's own (tests/examples/test_grpo_loop.py).
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import get_linear_schedule_with_warmup, set_seed

from sightline.config import DataConfig, LoraConfig, ModelConfig
from sightline.data.render.render import Renderer
from sightline.data.sources.load import load_rows
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.layout import prefix
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.objectives.online.advantages import group_advantages
from sightline.objectives.online.clip import clipped_loss
from sightline.objectives.online.ratio import sequence_log_ratio, token_log_ratio
from sightline.rewards.find import find_function
from sightline.rollouts.prompts import PromptDataset, PromptStream
from sightline.rollouts.sampler import TransformersSampler
from sightline.types import Prompt

BOUNDS = {"token": (0.2, 0.2), "answer": (3e-4, 4e-4)}
"""How far ratios may fall below 1 and rise above it: GRPO's, GSPO's."""


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--data", required=True, help="rows with a question; other columns reach the reward")
    parser.add_argument("--reward", required=True, help="accuracy, package.module.function or file.py:function")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50, help="optimizer steps")
    parser.add_argument("--prompts", type=int, default=8, help="prompts a step")
    parser.add_argument("--answers", type=int, default=8, help="answers to each of them")
    parser.add_argument("--iterations", type=int, default=1, help="steps on the same answers (μ)")
    parser.add_argument("--ratio", choices=["token", "answer"], default="token", help="token: GRPO, answer: GSPO")
    parser.add_argument("--epsilon", type=float, help="how far a ratio may move [0.2; GSPO 3e-4 down, 4e-4 up]")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    low, high = BOUNDS[options.ratio] if options.epsilon is None else (options.epsilon, options.epsilon)

    # the model, its processor, and an adapter on the language model; without a KL term there is no reference
    config = ModelConfig(name=options.model)
    set_seed(options.seed)
    processor, model = load_processor(config), load_model(config)
    set_seed(options.seed)
    policy = add_lora(model, LoraConfig(r=options.rank))
    family = family_of(policy)

    # prompts without end, in another order every time through; the policy answers them itself
    data = DataConfig(source=options.data)
    stream = PromptStream(PromptDataset(load_rows(data), data, Renderer(processor)), seed=options.seed, shuffle=True)
    sampler = TransformersSampler(policy, processor)
    sampling = SamplingSettings(max_new_tokens=options.max_new_tokens, temperature=1.0)
    judge = find_function(options.reward, {})

    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, options.steps)

    options.output_dir.mkdir(parents=True)
    step = 0
    with (options.output_dir / "metrics.jsonl").open("w") as metrics:
        while step < options.steps:
            # a round of answers, and what they are worth beside the other answers to the same prompt
            prompts = stream.take(options.prompts)
            sampled = sampler.sample(prompts, options.answers, sampling, options.seed)
            reward = rewards(judge, prompts, sampled, processor.tokenizer)
            group = torch.arange(len(prompts)).repeat_interleave(options.answers)
            advantage = group_advantages(reward, group, scale="group")

            # each prompt with its images once, all its answers after it
            groups = []
            for prompt, answers in zip(prompts, sampled, strict=True):
                responses = tuple(one.ids for one in answers)
                weights = tuple(torch.ones(len(ids)) for ids in responses)
                groups.append(family.place(replace(prompt.group, responses=responses, weights=weights)))
            batch, features = prefix.lay_out(groups), encode(policy, groups)

            old_logp = None
            for _ in range(min(options.iterations, options.steps - step)):
                policy.train()
                logp = log_probs(policy, batch, groups=groups, features=features)
                old_logp = logp.logp.detach() if old_logp is None else old_logp
                ratio = token_log_ratio if options.ratio == "token" else sequence_log_ratio
                token_loss = clipped_loss(
                    ratio(logp, old_logp), advantage[logp.response], epsilon_low=low, epsilon_high=high
                )
                # the mean over an answer's tokens, then over answers
                loss = (logp.per_response(token_loss) / logp.lengths).mean()
                optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                schedule.step()

                step += 1
                line = {
                    "step": step,
                    "loss": loss.item(),
                    "grad_norm": norm.item(),
                    "reward": reward.mean().item(),
                    "completions/mean_length": logp.lengths.mean().item(),
                }
                metrics.write(json.dumps(line) + "\n")
                print(f"{step:4d}  loss {line['loss']:+.4f}  reward {line['reward']:.3f}")

    policy.save_pretrained(str(options.output_dir))
    processor.save_pretrained(options.output_dir)


def rewards(judge: Callable, prompts: list[Prompt], sampled: list[list[Sampled]], tokenizer: Any) -> torch.Tensor:
    """One reward an answer. The judge gets the answers' texts, and every column of the rows once an answer."""
    asked = [prompt for prompt, answers in zip(prompts, sampled, strict=True) for _ in answers]
    texts = [tokenizer.decode(one.ids, skip_special_tokens=True) for answers in sampled for one in answers]
    columns = {name: [prompt.row[name] for prompt in asked] for name in prompts[0].row}
    given = judge(completions=texts, prompts=[prompt.as_given for prompt in asked], **columns)
    return torch.tensor(given, dtype=torch.float32)


if __name__ == "__main__":
    main()
