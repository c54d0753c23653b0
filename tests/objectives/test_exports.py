"""`from sightline.objectives import …`: every loss, and nothing heavier than torch."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import sightline.objectives as objectives


def test_every_loss_can_be_imported_from_the_package():
    modules = [import_module(m.name) for m in pkgutil.walk_packages(objectives.__path__, "sightline.objectives.")]
    losses = {name: module for module in modules for name in vars(module) if name.endswith("_loss")}
    whole = {"custom_loss", "online_token_loss"}  # make a loss of a recipe, and are none themselves
    assert set(losses) - whole <= set(objectives.__all__)
    assert all(getattr(objectives, name) is getattr(losses[name], name) for name in set(losses) - whole)


def test_losses_need_neither_transformers_nor_the_recipe():
    script = "import sightline.objectives, sys; print(*({'transformers', 'peft', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
