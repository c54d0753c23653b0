"""The embedded benchmark: drawn scenes with known contents, questions about them, and a small model that answers.

Start at `world.py` (what is in a scene), then `questions.py`, `rows.py` and `pairs.py` (rows to train on);
`architecture.py` is the model.
"""
