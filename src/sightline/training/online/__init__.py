"""Training on sampled completions (GRPO, GSPO, …): sample, reward, advantages, then the offline step.

Start at `trainer.py`.
"""
