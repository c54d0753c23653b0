"""What judges sampled answers: `reward(completions, prompts, **columns) -> list[float | None]`."""
