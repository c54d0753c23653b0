"""Curves: what is drawn, what is not, and that smoothing does not bend the truth."""

import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from sightline.errors import DataError
from sightline.report.curves import (
    CHARTS,
    LIGHT,
    Series,
    curves_of,
    draw_contrast,
    draw_curves,
    read_metrics,
    smooth,
)


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_metrics_are_read_by_name_without_events_and_without_infinities(tmp_path: Path) -> None:
    rows = [
        {"event": "layout", "layout": "prefix", "figure": 3},
        {"step": 1, "loss": 0.7, "epoch": 0.1, "note": "text"},
        {"step": 2, "loss": float("nan")},
        {"step": 2, "eval_loss": 0.6},
        {"step": 3, "loss": 0.5},
    ]
    metrics = read_metrics(write(tmp_path / "metrics.jsonl", rows))
    assert metrics["loss"] == Series([1, 3], [0.7, 0.5])
    assert metrics["eval_loss"] == Series([2], [0.6])
    assert set(metrics) == {"loss", "eval_loss", "epoch"}


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    with pytest.raises(DataError, match="Line 2"):
        read_metrics(path)


def test_only_what_was_logged_is_drawn_and_every_image_shows_something(tmp_path: Path) -> None:
    rows = [{"step": s, "loss": 1 / s, "rewards/chosen": s, "rewards/rejected": -s} for s in range(1, 30)]
    curves = draw_curves(write(tmp_path / "metrics.jsonl", rows), tmp_path / "curves")
    assert [c.name for c in curves] == ["loss", "rewards"]
    assert sorted(p.name for p in (tmp_path / "curves").iterdir()) == ["loss.png", "rewards.png"]
    for curve in curves:
        colours = Image.open(BytesIO(curve.light)).convert("RGB").getcolors(maxcolors=2**24)
        assert colours is not None and len(colours) > 50


def test_the_dark_image_has_a_dark_page() -> None:
    curve = curves_of({"loss": Series([1, 2], [1.0, 0.5])})[0]
    corners = [Image.open(BytesIO(png)).convert("L").getpixel((0, 0)) for png in (curve.light, curve.dark)]
    assert corners[0] == 255
    assert corners[1] < 40


def test_held_out_values_change_the_image_and_the_same_numbers_give_the_same_bytes() -> None:
    train = {"loss": Series([1, 2, 3], [1.0, 0.5, 0.4])}
    alone, again = curves_of(train)[0], curves_of(train)[0]
    both = curves_of({**train, "eval_loss": Series([3], [0.6])})[0]
    assert alone.light == again.light
    assert alone.light != both.light


def test_parts_of_a_composite_loss_share_one_chart_after_the_loss() -> None:
    series = Series([1, 2], [1.0, 0.5])
    names = [c.name for c in curves_of({"loss": series, "loss/sft": series, "loss/sigmoid": series})]
    assert names == ["loss", "loss_parts"]


def test_a_contrast_needs_a_run_that_logged_the_metric() -> None:
    accuracy = next(c for c in CHARTS if c.name == "reward_accuracy")
    logged = {"rewards/accuracies": Series([1, 2], [0.5, 1.0])}
    assert draw_contrast(accuracy, {"good": {}, "eager": {}}) is None
    drawn = draw_contrast(accuracy, {"good": logged, "eager": logged})
    assert drawn is not None and drawn.title == "Reward accuracy"


def test_smoothing_keeps_straight_lines_and_ends_and_averages_noise_away() -> None:
    line = [0.5 * i for i in range(40)]
    assert smooth(line, 9) == pytest.approx(line)
    saw = [float(i % 2) for i in range(41)]
    assert smooth(saw, 9)[20] == pytest.approx(0.5, abs=0.06)
    assert smooth([3.0], 9) == [3.0]


def test_a_run_has_one_colour_in_every_chart_and_none_is_left_out() -> None:
    loss = next(chart for chart in CHARTS if chart.name == "loss")
    logged = {"loss": Series([1, 2], [1.0, 0.5])}
    second = draw_contrast(loss, {"dpo": {}, "grpo": logged})
    assert (
        second is not None and has_colour(second.light, LIGHT.lines[1]) and not has_colour(second.light, LIGHT.lines[0])
    )
    apart = {f"run {i}": {"loss": Series([1, 2], [float(i), float(i)])} for i in range(7)}
    six, seven = (draw_contrast(loss, dict(list(apart.items())[:n])) for n in (6, 7))
    assert six is not None and seven is not None and six.light != seven.light


def has_colour(png: bytes, colour: str) -> bool:
    wanted = tuple(bytes.fromhex(colour.removeprefix("#")))
    colours = Image.open(BytesIO(png)).convert("RGB").getcolors(maxcolors=2**24)
    return colours is not None and wanted in {found for _, found in colours}
