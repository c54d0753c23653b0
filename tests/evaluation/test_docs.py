"""The task of docs/evaluation.md runs as it stands there."""

import re
from pathlib import Path

from PIL import Image

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_a_task_of_ones_own_is_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("cup.png")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(compile(block, "docs/evaluation.md", "exec"), names)
    (record,) = names["evaluate"](names["model"], names["processor"], names["task"])
    value = 100.0 * record.answer.lower().startswith("yes")
    assert f"value={value}" in capsys.readouterr().out
