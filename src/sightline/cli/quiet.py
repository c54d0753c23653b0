"""Libraries hold their tongue on the command line: their bars and notices would bury what the user needs to read."""

import logging
import os
import warnings


def quiet() -> None:
    """Silence progress bars and notices of transformers, datasets and the like; errors still come through."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # DeepSpeed sets its level anew when it is imported, and its warnings go to stdout, into --json
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)

    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
