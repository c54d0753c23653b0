"""The comparison app: answers in turns, and the page in a real browser that talks to this machine only."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.browser import needs_chromium, opened
from tests.evaluation import toy

from sightline.app.answers import answers, prompt
from sightline.config import LoraConfig, ModelConfig
from sightline.evaluation.models import Models, Source
from sightline.generation.generate import generate
from sightline.models.load import load_model
from sightline.models.lora import add_lora


@pytest.fixture(scope="module")
def models(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A base, and an adapter on it that answers otherwise."""
    base = str(tiny_model("llava"))
    folder = tmp_path_factory.mktemp("tuned")
    tuned = add_lora(load_model(ModelConfig(name=base)), LoraConfig(r=4))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    tuned.save_pretrained(folder)
    return Models([Source("base", base), Source("tuned", base, str(folder))], device="cpu", keep=2)


def test_models_that_take_turns_say_what_each_says_alone(models: Models) -> None:
    image = toy.image(1)
    rounds = [
        [list(a.tokens) for a in said]
        for said in answers(models, ["base", "tuned"], image, "What is this?", max_new_tokens=6)
    ]
    assert [len(tokens) for tokens in rounds[0]] == [1, 1], "one token each before anybody says a second"
    for place, label in enumerate(("base", "tuned")):
        with models.use(label) as (model, processor):
            (alone,) = generate(model, processor, [prompt(processor, image, "What is this?")], max_new_tokens=6)[0]
            end = processor.tokenizer.eos_token_id
        assert rounds[-1][place] == [int(token) for token in alone if token != end]
    assert rounds[-1][0] != rounds[-1][1]


@pytest.fixture(scope="module")
def address(models: Models) -> Iterator[str]:
    """The app as a user starts it, in a process of its own."""
    pytest.importorskip("gradio")
    base, tuned = models.sources["base"], models.sources["tuned"]
    command = [sys.executable, "-m", "sightline.cli.main", "compare", f"base={base.base}", f"tuned={tuned.adapter}"]
    server = subprocess.Popen([*command, "--serve", "--device", "cpu"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.search(r"Open (http://127\.0\.0\.1:\d+/)", server.stdout.readline())
    assert found is not None
    yield found.group(1)
    server.terminate()
    server.wait(timeout=60)


@needs_chromium
def test_a_image_is_uploaded_and_both_models_answer_in_a_browser(address: str, tmp_path: Path) -> None:
    toy.image(1, (96, 96)).save(tmp_path / "image.png")
    with opened(address) as (page, asked):
        page.set_input_files("input[type=file]", str(tmp_path / "image.png"))
        page.wait_for_selector("img[alt]", timeout=60_000)
        page.fill("#longest input[type=number]", "8")
        page.fill("#question textarea", "What is this?")
        page.click("#ask")
        page.wait_for_function(
            "() => document.querySelectorAll('.answers article small').length === 2 "
            "&& !document.querySelector('.answers .writing')",
            timeout=120_000,
        )
        columns = page.locator(".answers article p").all_inner_texts()
        headings = page.locator(".answers article h3").all_inner_texts()
        page.screenshot(path=str(tmp_path / "page.png"))
    assert len(columns) == 2 and columns[0] != columns[1]
    assert headings[0].startswith("base") and "tokens" in headings[1]
    shown = Image.open(tmp_path / "page.png").convert("RGB").getcolors(maxcolors=2**24)
    assert shown is not None and len(shown) > 200
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == [], "the page asked somebody else"
