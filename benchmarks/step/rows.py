"""The data of a case: one parquet file that every program reads, images as JPEG, texts of exact token counts.

`python -m benchmarks.step.rows CASE_JSON MODEL_FOLDER DATA.parquet` writes it, and the model where there is none, in a
process that measures nothing.
"""

import io
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from benchmarks.step.case import Case, read_case
from benchmarks.step.random_model import CORPUS
from benchmarks.step.shapes import build, read_processor


def write_rows(case: Case, processor: Any, path: Path) -> None:
    """One row a prompt, as many as the run takes; GRPO's fixed answers and their scores are columns."""
    random = np.random.default_rng(0)
    words = single_token_words(processor.tokenizer)
    rows = []
    for _ in range(case.steps * case.groups):
        image = draw(random, case.grid)
        lengths = response_lengths(random, case)
        row: dict[str, Any] = {
            "images": [{"bytes": as_jpeg(image), "path": None}],
            "prompt": [{"role": "user", "content": question(case, processor, image, random, words)}],
        }
        said = [text(random, words, length - 1) for length in lengths]  # the end-of-turn token is the last
        as_messages = [[{"role": "assistant", "content": one}] for one in said]
        match case.task:
            case "dpo":
                row["chosen"], row["rejected"] = as_messages
            case "sft":
                row["completion"] = as_messages[0]
            case "grpo":
                row["answers"] = said
                row["scores"] = [float(score) for score in random.normal(size=case.responses).round(3)]
        rows.append(row)
    table = datasets.Dataset.from_list(rows).cast_column("images", datasets.List(datasets.Image()))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)


def response_lengths(random: np.random.Generator, case: Case) -> list[int]:
    """Tokens of each response, the end-of-turn token included: C ± C/16."""
    spread = case.response_tokens // 16
    low, high = case.response_tokens - spread, case.response_tokens + spread
    return [int(length) for length in random.integers(low, high + 1, size=case.responses)]


def single_token_words(tokenizer: Any) -> list[str]:
    """Words that are one token with a space in front and one without."""
    words = sorted({word for line in CORPUS for word in line.split() if word.isalpha()})
    return [word for word in words if num_tokens(tokenizer, word) == 1 == num_tokens(tokenizer, " " + word)]


def num_tokens(tokenizer: Any, said: str) -> int:
    return len(tokenizer(said, add_special_tokens=False)["input_ids"])


def text(random: np.random.Generator, words: list[str], count: int) -> str:
    """`count` words, each a token."""
    return " ".join(random.choice(words, size=count))


def question(case: Case, processor: Any, image: Image.Image, random: np.random.Generator, words: list[str]) -> str:
    """A question that makes the rendered prompt, image included, `case.prompt_tokens` long."""

    def rendered_length(said: str) -> int:
        content = [{"type": "image"}, {"type": "text", "text": said}]
        rendered = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return len(processor(text=[rendered], images=[[image]], add_special_tokens=False)["input_ids"][0])

    base = rendered_length(words[0]) - 1
    missing = case.prompt_tokens - base
    if missing < 1:
        raise SystemExit(f"A prompt with an image of {case.grid} tiles has {base} tokens, not {case.prompt_tokens}.")
    said = text(random, words, missing)
    assert rendered_length(said) == case.prompt_tokens
    return said


def draw(random: np.random.Generator, grid: tuple[int, int]) -> Image.Image:
    """A smooth coloured image with some grain, in the proportions of the grid."""
    rows, columns = grid
    coarse = Image.fromarray(random.integers(0, 255, (5 * rows, 5 * columns, 3)).astype("uint8"))
    fine = np.asarray(coarse.resize((200 * columns, 200 * rows), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((fine + random.integers(-20, 20, fine.shape)).clip(0, 255).astype("uint8"))


def as_jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


if __name__ == "__main__":
    wanted, model_folder, data = read_case(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    if not (model_folder / "processor_config.json").exists():
        built = build(wanted.shape, wanted.grid, "meta" if wanted.in_memory else "cpu")
        if not wanted.in_memory:
            built.model.save_pretrained(model_folder)
        built.processor.save_pretrained(model_folder)
    write_rows(wanted, read_processor(model_folder), data)
