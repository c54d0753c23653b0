"""Training: from a recipe to a run folder.

Start at `run.py` (the story of a run), then `step/step.py` (one optimizer step) and `trainer.py`. Rooms: `step`,
`online` (sampled completions), `checkpoint`, `distributed`, `watch` (progress, scores while training).
"""
