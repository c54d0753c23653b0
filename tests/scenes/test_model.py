"""The embedded model as it is shipped."""

from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaConfig

from sightline.config.model import ModelConfig
from sightline.evaluation.run import evaluate
from sightline.evaluation.summary import summarise
from sightline.evaluation.tasks.scenes import scenes_task
from sightline.models.load import EMBEDDED, load_model, load_processor
from sightline.scenes.architecture import config, processor
from sightline.scenes.world import draw_scene


def test_it_is_small_and_plain_files():
    files = {file.name: file.stat().st_size for file in EMBEDDED.iterdir() if file.is_file()}
    assert sum(files.values()) < 5_000_000
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json"} <= files.keys()


def test_it_is_the_architecture_and_processor_of_the_code():
    shipped = LlavaConfig.from_pretrained(EMBEDDED)
    for part in ("text_config", "vision_config"):
        ours, theirs = getattr(config(), part).to_diff_dict(), getattr(shipped, part).to_diff_dict()
        assert {name: theirs[name] for name in ours if name not in NOT_OURS} == {
            name: value for name, value in ours.items() if name not in NOT_OURS
        }
    written = AutoProcessor.from_pretrained(EMBEDDED)
    assert written.tokenizer.get_vocab() == processor().tokenizer.get_vocab()
    assert written.chat_template == processor().chat_template
    assert written.image_processor.image_std == processor().image_processor.image_std


NOT_OURS = ("dtype", "transformers_version", "architectures")


def test_it_answers_through_transformers_alone():
    reader = AutoProcessor.from_pretrained(EMBEDDED)
    model = AutoModelForImageTextToText.from_pretrained(EMBEDDED)
    scene = draw_scene(123, 3, max_objects=1)
    content = [{"type": "image", "image": scene.image()}, {"type": "text", "text": "What color is the object?"}]
    content[1]["text"] = f"What color is the {scene.objects[0].shape}?"
    inputs = reader.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    answer = model.generate(**inputs, max_new_tokens=5)[0, inputs["input_ids"].shape[1] :]
    assert reader.tokenizer.decode(answer, skip_special_tokens=True) == scene.objects[0].colour


def test_it_sees_well_and_hallucinates_often():
    embedded = ModelConfig(name="embedded")
    task = scenes_task(150, seed=94_000)
    summary = summarise(task, evaluate(load_model(embedded), load_processor(embedded), task, batch_size=256))
    assert summary.overall("cover").value > 96
    assert summary.overall("hal").value > 40
    assert summary.overall("accuracy").value < 90
    assert summary.figures["existence: present"]["accuracy"].value > 97
    assert summary.overall("counting").value > 90
    assert summary.overall("attribute").value > 90
