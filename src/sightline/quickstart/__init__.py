"""The whole journey on the embedded model: pairs from its own mistakes, DPO, a control, evaluation, a report."""
