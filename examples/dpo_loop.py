"""DPO in one flat file: Sightline's functions, no trainer.

    python examples/dpo_loop.py --model embedded --data rows.parquet --steps 50 --output-dir runs/loop

What the trainer adds and this leaves out: held-out rows, checkpoints and resume, trackers, many processes.
The curve is the trainer's own (tests/examples/test_dpo_loop.py).
"""

import argparse
import json
import random
from pathlib import Path

import torch
from transformers import get_linear_schedule_with_warmup, set_seed

import sightline as sl
from sightline.config import DataConfig, LoraConfig, ModelConfig, ReferenceConfig
from sightline.errors import DataError
from sightline.layout import prefix
from sightline.objectives import dpo_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--data", required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=8, help="pairs a step")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()

    # the model, its processor, and an adapter on the language model
    config = ModelConfig(name=options.model)
    set_seed(options.seed)
    processor, model = sl.load_processor(config), sl.load_model(config)
    set_seed(options.seed)
    policy = sl.add_lora(model, LoraConfig(r=options.rank))
    reference = sl.build_reference(policy, ReferenceConfig(), has_lora=True, needed=True)
    assert reference is not None
    family = sl.family_of(policy)

    # rows become groups: a prompt with its images, and two responses
    data = DataConfig(source=options.data)
    dataset = sl.GroupDataset(sl.load_rows(data), data, sl.Renderer(processor), "pairs")

    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, options.steps)

    options.output_dir.mkdir(parents=True)
    order = list(range(len(dataset)))
    random.Random(options.seed).shuffle(order)
    with (options.output_dir / "metrics.jsonl").open("w") as metrics:
        for step in range(options.steps):
            picked = [order[(step * options.batch_size + i) % len(order)] for i in range(options.batch_size)]
            groups = [family.place(group_of(dataset[i])) for i in picked]

            # prompt and images once, both responses after them; features shared by policy and reference
            batch = prefix.lay_out(groups)
            features = sl.encode(policy, groups)
            ref = reference.log_probs(batch, groups=groups, features=features).sum()
            policy.train()
            logp = sl.log_probs(policy, batch, groups=groups, features=features).sum()

            # responses 2p and 2p + 1 are chosen and rejected of pair p
            loss = dpo_loss(logp[0::2], logp[1::2], ref[0::2], ref[1::2], beta=options.beta).mean()
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()

            reward = options.beta * (logp - ref).detach()
            margin = reward[0::2] - reward[1::2]
            line = {
                "step": step + 1,
                "loss": loss.item(),
                "grad_norm": norm.item(),
                "rewards/margins": margin.mean().item(),
                "rewards/accuracies": (margin > 0).float().mean().item(),
            }
            metrics.write(json.dumps(line) + "\n")
            print(f"{step + 1:4d}  loss {line['loss']:.4f}  margin {line['rewards/margins']:+.3f}")

    policy.save_pretrained(options.output_dir)
    processor.save_pretrained(options.output_dir)


def group_of(item: sl.Group | sl.BadRow) -> sl.Group:
    """The group of a row; a row that gives none ends the run with its message."""
    if isinstance(item, sl.BadRow):
        raise DataError(item.message)
    return item


if __name__ == "__main__":
    main()
