"""The whole journey on the embedded model: pairs from its own mistakes, DPO, a control, evaluation, a report.

Start at `journey.py`; `story.py` turns what happened into the report.
"""
