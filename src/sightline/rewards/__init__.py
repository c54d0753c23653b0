"""What judges sampled completions: `reward(completions, prompts, **columns) -> list[float | None]`.

Start at `reward_set.py` (all rewards of a run: called, checked, added up) and `find.py` (from a recipe's names to
functions); the others are the built-in ones.
"""
