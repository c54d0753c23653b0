"""What a run says of its rows before the first step: labels that are missing, pages that are not trained on."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sightline.cli.main import main
from sightline.data.checks.frames import frames_note
from sightline.data.sources.load import rows_of
from sightline.errors import DataError
from sightline.recipe import normalise, structure
from sightline.training.run import train
from tests.training.runs import pairs, run


def labelled(count: int) -> list[dict]:
    rows = pairs(count)
    return [
        {"images": [row["image"]], "prompt": "What is shown?", "completion": row["chosen"], "label": bool(i % 2)}
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize("objective", ["kto", "bco"])
def test_a_response_without_a_label_is_a_bad_row_of_objectives_over_labels(tmp_path, tiny_model, objective):
    bare = {"image": pairs(1)[0]["image"], "question": "What is shown?", "answer": "a red square"}
    with pytest.raises(DataError, match=r"row \d: the response is not labelled.*label missing"):
        run(tmp_path / "bare", tiny_model("llava"), [bare] * 4, objective=objective)
    mixed = [{**bare, "id": 1}, *labelled(7)]
    data = {"on_bad_row": "skip"}
    result = run(tmp_path / "run", tiny_model("llava"), mixed, objective=objective, data=data, max_steps=2)
    card = json.loads((result.folder / "sightline.json").read_text())
    assert card["rows_skipped"] == 1 and card["steps"] == 2


def test_data_check_counts_missing_labels_for_such_a_recipe(tmp_path, capsys):
    rows = [{"question": "What is it?", "answer": f"a cup {i}"} for i in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for objective, found in (("kto", ["label missing"]), ("sft", [])):
        recipe = tmp_path / f"{objective}.yaml"
        recipe.write_text(f"objective: {{type: {objective}}}\ndata: {{source: {tmp_path}/rows.jsonl}}\n")
        assert main(["data", "check", "--recipe", str(recipe), "--json"]) == bool(found)
        assert [defect["name"] for defect in json.loads(capsys.readouterr().out)["defects"]] == found


def test_images_of_several_frames_are_counted_when_a_run_starts(tmp_path, tiny_model):
    pages = [Image.fromarray(np.full((40, 40, 3), 80 * n, dtype=np.uint8)) for n in range(3)]
    for kind, options in (("gif", {}), ("tiff", {}), ("png", {"default_image": False}), ("webp", {})):
        pages[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=pages[1:], **options)
        encoded = {"bytes": (tmp_path / f"a.{kind}").read_bytes(), "path": None}
        rows = [*pairs(3), {**pairs(1)[0], "image": encoded}]
        note = frames_note(rows_of(rows).entries())
        assert note is not None and note.startswith("An image of the first rows has") and "row 3: 3)" in note, kind
    assert frames_note(rows_of(pairs(3)).entries()) is None
    for streaming in (False, True):
        said = io.StringIO()
        tree = {"model": str(tiny_model("llava")), "output_dir": str(tmp_path / f"run-{streaming}"), "max_steps": 1,
                "lora": {"r": 2}, "objective": "dpo", "data": {"streaming": streaming}, "dataloader_num_workers": 0,
                "learning_rate": 1e-3}  # fmt: skip
        train(structure(normalise(tree)), data=rows, console=Console(file=said, width=500))
        assert "An image of the first rows has several pages or frames" in said.getvalue(), streaming
