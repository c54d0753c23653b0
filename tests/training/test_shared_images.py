"""`data.share_images` changes what is computed once, and nothing else: labelled rows train as apart."""

import pytest

from sightline.errors import DataError
from tests.training.runs import WORDS, curve, pairs, run


def labelled() -> list[dict]:
    """Three images, each with a desirable and an undesirable answer to questions of their own."""
    return [
        {"image": row["image"], "question": f"Is it {word}?", "answer": answer, "label": label}
        for row, word in zip(pairs(3), WORDS, strict=False)
        for answer, label in ((row["rejected"], False), (row["chosen"], True))
    ]


@pytest.mark.parametrize("objective", [{"type": "bco"}, {"type": "mix", "parts": {"bco": 1.0, "sft": 0.5}}])
def test_labelled_rows_on_one_image_train_as_apart(tmp_path, tiny_model, objective):
    curves = []
    for shared in (False, True):
        folder = tmp_path / str(shared)
        run(
            folder,
            tiny_model("llava"),
            labelled(),
            objective=objective,
            data={"share_images": shared},
            per_device_train_batch_size=3 if shared else 6,  # groups: all rows in every step
            num_train_epochs=3,
            max_steps=3,
            learning_rate=1e-2,
        )
        curves.append([curve(folder, name) for name in ("loss", "grad_norm", "rewards/chosen", "rewards/rejected")])
    assert curves[0] == [pytest.approx(figures, rel=1e-4, abs=1e-6) for figures in curves[1]]
    assert curves[0][2][-1] > curves[0][3][-1], "a wrong label would teach the opposite"


def test_a_row_without_a_label_among_labelled_ones_on_its_image_is_named(tmp_path, tiny_model):
    first, second, *_ = labelled()
    rows = [first, {**second, "label": None}]
    with pytest.raises(DataError, match=r"rows, row 1: the response is not labelled as desirable or undesirable"):
        run(tmp_path / "run", tiny_model("llava"), rows, objective={"type": "bco"}, data={"share_images": True})
