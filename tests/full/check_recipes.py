"""Every recipe for a real model: the peak in its heading, and its rehearsal from the command line. Half an hour."""

import json
import subprocess
import sys

import pytest

from sightline.memory.estimator import Estimator
from sightline.memory.sample import usual_sizes
from sightline.memory.shapes import find_config
from tests.rehearsal.test_recipes import PLANNED, REAL, as_written, commands


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_the_peak_of_a_heading(path):
    """Within a tenth: the planner's own arithmetic may become finer."""
    found = PLANNED.search(path.read_text())
    assert found is not None
    recipe, gpus = as_written(path)
    estimator = Estimator(find_config(recipe.model), usual_sizes(recipe))
    peak = estimator.estimate(recipe, gpus=gpus).peak / 2**30
    assert peak == pytest.approx(float(found[1]), rel=0.1)


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_a_rehearsal_as_a_user_starts_it(path, tmp_path):
    flags = next(words[3:] for words in commands(path) if words[-1] == "--rehearse")
    words = [sys.executable, "-m", "sightline.cli.main", "train", str(path), *flags, str(tmp_path / "kept"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"] and (tmp_path / "kept" / "run" / "report.html").is_file()
