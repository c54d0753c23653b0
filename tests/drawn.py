"""How many examples a drawn test draws: as many as it says, or few in `make test-fast` (HYPOTHESIS_PROFILE=quick)."""

import os


def drawn(examples: int) -> int:
    """The number of examples to draw."""
    return min(examples, 10) if os.environ.get("HYPOTHESIS_PROFILE") == "quick" else examples
