"""Our tasks as lmms-eval's: a YAML and a JSONL each, the images, and one small module that they share.

lmms-eval then asks any of its models the same questions in its own environment (`--include_path FOLDER --tasks …
--log_samples`), and `sightline evaluate --responses` scores the samples that it logs. There it shows the share of
answers only: scorers stay here, so that figures of both are made by one scorer. Written for lmms-eval 0.7.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sightline.data.media.images import LazyImage
from sightline.errors import DataError
from sightline.evaluation.task import Task
from sightline.evaluation.tasks.files import require_images
from sightline.types import AnyImage

MODULE = "sightline_tasks.py"
CODE = '''"""What the task files beside this one call; written by `sightline evaluate --export lmms-eval`."""

from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent


def images(doc):
    return [Image.open(HERE / name).convert("RGB") for name in doc["images"]]


def question(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def answered(doc, results):
    return {"answered": float(bool(results[0].strip()))}
'''


def export(tasks: Sequence[Task], folder: Path) -> list[str]:
    """Write the tasks into a new or empty folder; returns their names in lmms-eval.

    Raises `DataError` for a missing image, or a folder that holds something.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise DataError(f"{folder} holds something already. Give --output a new folder.")
    require_images(tasks)
    (folder / "images").mkdir(parents=True)
    (folder / MODULE).write_text(CODE, encoding="utf-8")
    written: dict[str, str] = {}
    for task in tasks:
        rows = [_row(task, item, folder, written) for item in task.items]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{task.name}.jsonl").write_text(text, encoding="utf-8")
        (folder / f"{name_of(task)}.yaml").write_text(_yaml(task, folder), encoding="utf-8")
    return [name_of(task) for task in tasks]


def name_of(task: Task) -> str:
    """The task's name in lmms-eval."""
    return f"sightline_{task.name.replace('-', '_')}"


def from_sample(row: dict[str, Any], path: Path, tasks: Sequence[Task], where: str) -> dict[str, Any]:
    """A line that lmms-eval logged, as {id, task, response}: its file names the task, its `doc_id` numbers the item.

    Raises `DataError` where the task or the item is not among those to score, or is another question.
    """
    task = next((task for task in tasks if path.stem.endswith(f"_samples_{name_of(task)}")), None)
    if task is None:
        raise DataError(
            f"{path} holds samples of lmms-eval, but its name ends in none of the tasks to score ("
            + ", ".join(f"_samples_{name_of(task)}" for task in tasks)
            + "). Name its task with --task, and leave the file's name as it was."
        )
    number = row["doc_id"]
    item = task.items[number] if isinstance(number, int) and 0 <= number < len(task.items) else None
    if item is None or row.get("input", task.asked(item)) != task.asked(item):
        raise DataError(
            f"{where} answers question {number} of {task.name} as {row.get('input')!r}, which is not its question "
            "here. Score with the same --data, --limit and --prompt that the task was exported with."
        )
    text = row["filtered_resps"]
    return {"id": item.id, "task": task.name, "response": text[0] if isinstance(text, list) and text else text}


def _row(task: Task, item: Any, folder: Path, written: dict[str, str]) -> dict[str, Any]:
    images = [_image(image, f"{item.image_id}/{number}", folder, written) for number, image in enumerate(item.images)]
    target = task.truth_text(item)
    return {"id": item.id, "task": task.name, "question": task.asked(item), "target": target, "images": images}


def _image(image: AnyImage, key: str, folder: Path, written: dict[str, str]) -> str:
    """A copy of the image's file, or a PNG of one that has none; each image once."""
    if key not in written:
        path = image.path if isinstance(image, LazyImage) else None
        name = f"images/{len(written)}{path.suffix if path is not None else '.png'}"
        if path is not None:
            shutil.copyfile(path, folder / name)
        else:
            image.open().save(folder / name)
        written[key] = name
    return written[key]


def _yaml(task: Task, folder: Path) -> str:
    module = Path(MODULE).stem
    tree = {
        "task": name_of(task),
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((folder / f"{task.name}.jsonl").resolve())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": f"!function {module}.images",
        "doc_to_text": f"!function {module}.question",
        "doc_to_target": "target",
        "generation_kwargs": {"max_new_tokens": task.max_new_tokens, "temperature": 0, "do_sample": False},
        "process_results": f"!function {module}.answered",
        "metric_list": [{"metric": "answered", "aggregation": "mean", "higher_is_better": True}],
        "metadata": [{"version": 1.0}],
    }
    # `!function` is a tag there, not text
    return re.sub(r"'!function ([\w.]+)'$", r"!function \1", yaml.safe_dump(tree, sort_keys=False), flags=re.MULTILINE)
