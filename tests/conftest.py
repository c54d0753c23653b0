"""Fixtures that all tests share: one thread, no network, and tiny models saved once a session."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loaded import Loaded

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
with suppress(ImportError):  # vLLM's environment has none of the tests that draw their examples
    from hypothesis import settings

    # the same examples every time; `make full-fuzz` looks for others
    settings.register_profile("same", derandomize=True)
    settings.register_profile("quick", derandomize=True, max_examples=10)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def without_drawing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Curves take longer to draw than short runs take to train; a module that looks at them says `DRAWS = True`."""
    if getattr(request.module, "DRAWS", False) or request.path.parent.name in UNIT:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.training.checkpoint.finish.draw_curves", lambda *_: [])
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_model("llava")`: the folder of a tiny random model with its processor, written once a session."""
    from sightline.rehearsal import tiny_models

    saved: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in saved:
            saved[family] = tiny_models.save(family, tmp_path_factory.mktemp(family))
        return saved[family]

    return folder


@pytest.fixture
def loaded(tiny_model: Callable[[str], Path]) -> "Callable[..., Loaded]":
    """`loaded("llava")`: the tiny model of a family, freshly loaded, every weight frozen."""
    from sightline.config import ModelConfig
    from sightline.models.load import load_model, load_processor
    from tests.loaded import Loaded

    def load(name: str, **options) -> Loaded:
        config = ModelConfig(name=str(tiny_model(name)), **options)
        return Loaded(load_model(config), load_processor(config), config)

    return load


UNIT = ("attention", "config", "data", "layout", "objectives", "report", "rewards", "scoring", "translate")
"""Folders whose tests load and train no model, or a tiny one for an instant."""
NOT_UNIT = (
    "test_flex.py",
    "test_comparison_in_a_browser.py",
    "test_curves.py",
    "test_data_command.py",
    "test_docs.py",
    "test_loader_workers.py",
    "test_math_verifier.py",
    "test_reward_model.py",
    "test_shapes.py",
    "test_stream.py",
    "test_time_limit.py",
    "test_token_cache.py",
)
"""Files of those folders that start processes or a browser, draw, load processors, or need jaxtyping's checks."""
PROCESS = ("app", "engines", "fakegpu", "faults", "invariant", "training", "vllm")
"""Folders whose tests start other processes or train for many steps."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier: `unit`, `process`, or `model` for what is between."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        is_unit = folder in UNIT and item.path.name not in NOT_UNIT
        tier = "unit" if is_unit else "process" if folder in PROCESS else "model"
        item.add_marker(tier)
