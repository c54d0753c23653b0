"""Does the cost of Sightline grow linearly in P + K · C? A line through the measured points, and how far they lie."""

from typing import Any

import numpy as np


def line_through(points: list[dict[str, Any]]) -> str:
    """Least squares over Sightline's points of both sweeps, as a sentence."""
    ours = [one for one in points if one["program"] == "sightline"]
    tokens = np.array([one["tokens"] for one in ours], dtype=float)
    seconds = np.array([one["cpu_s"] for one in ours])
    slope, start = np.polyfit(tokens, seconds, 1)
    residual = seconds - (start + slope * tokens)
    explained = 1 - residual.var() / seconds.var()
    return (
        f"Sightline: {start:.2f} s + {1000 * slope:.2f} ms a token of P + K · C; R² = {explained:.3f}, "
        f"off by at most {np.abs(residual).max():.2f} s"
    )
