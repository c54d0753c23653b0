"""What docs/security.md promises."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from sightline.cli.main import main
from sightline.config import LoraConfig, ModelConfig
from sightline.errors import ModelError
from sightline.http import HTTPFailure, post_json
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.recipe import load_recipe
from sightline.rollouts.server_key import VARIABLE, RequireKey
from sightline.rollouts.vllm_weights import Endpoint
from tests.rewards.test_judge import Server
from tests.training.test_online import prompts

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


FOR_USERS = [
    one
    for one in map(Requirement, metadata.requires("sightline") or [])
    if one.marker is None or not one.marker.evaluate({"extra": "dev"})
]
"""What the package and its extras ask for; `dev` is for those who work on it."""


def test_every_dependency_has_its_licence_in_the_docs():
    page = (ROOT / "docs" / "security.md").read_text().lower()
    assert len(FOR_USERS) > 20
    assert [one.name for one in FOR_USERS if one.name.lower() not in page] == []


def test_nothing_that_they_bring_along_asks_for_more_than_apache_2_0_gives():
    found: dict[str, str] = {}
    waiting = list(FOR_USERS)
    while waiting:
        one = waiting.pop()
        if one.name in found:
            continue
        try:
            about = metadata.distribution(one.name)
        except metadata.PackageNotFoundError:  # an extra that is not installed here
            continue
        found[one.name] = licence(about)
        further = [Requirement(line) for line in about.requires or []]
        extras = [{"extra": extra} for extra in one.extras or {""}]
        waiting += [r for r in further if r.marker is None or any(r.marker.evaluate(e) for e in extras)]
    assert len(found) > 60
    assert {name: text for name, text in found.items() if not text} == {}
    assert {name: text for name, text in found.items() if "GPL" in text or "General Public" in text} == {}


def licence(about: metadata.Distribution) -> str:
    """What a package's metadata says of it: the expression, the classifiers, or the first line of free text."""
    told = about.metadata
    classified = [one for one in told.get_all("Classifier", []) if one.startswith("License ::")]
    return told.get("License-Expression") or "; ".join(classified) or (told.get("License") or "").partition("\n")[0]


@pytest.mark.parametrize("pattern", [r"\btorch\.(load|save)\(", r"^\s*(import|from) (pickle|dill|cloudpickle)\b"])
def test_nothing_is_pickled(pattern):
    found = [path.name for path in SOURCES if re.search(pattern, path.read_text(), re.MULTILINE)]
    assert found == []


def test_code_out_of_model_folders_is_off_and_its_switch_named(tmp_path, tiny_model):
    assert load_recipe().model.trust_remote_code is False
    folder = Path(shutil.copytree(tiny_model("llava"), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "fancy", "auto_map": {"AutoConfig": "fancy.FancyConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "fancy.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    for load in (load_processor, load_model):
        with pytest.raises(ModelError, match=r"Python code of its own.*`model.trust_remote_code: true`"):
            load(ModelConfig(name=str(folder)))
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("command", ["generate", "export"])
def test_the_recipe_of_a_foreign_run_does_not_switch_it_on_and_a_flag_does(
    tmp_path, tiny_model, monkeypatch, capsys, command
):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    base = Path(shutil.copytree(tiny_model("llava"), tmp_path / f"base_{command}"))
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "fancy", "auto_map": {"AutoConfig": "fancy.FancyConfig"}}
    (base / "config.json").write_text(json.dumps(config))
    (base / "fancy.py").write_text(
        f"from transformers import LlavaConfig\nopen({str(tmp_path / 'was_run')!r}, 'w')\n"
        "class FancyConfig(LlavaConfig):\n    model_type = 'fancy'\n"
    )
    run = tmp_path / "run"
    add_lora(load_model(ModelConfig(name=str(tiny_model("llava")))), LoraConfig(r=2)).save_pretrained(str(run))
    (run / "recipe.yaml").write_text(f"model: {{name: {base}, trust_remote_code: true}}\nlora: {{r: 2}}\n")
    (run / "sightline.json").write_text(json.dumps({"base_model": str(base)}))
    words = [command, str(run), *(["--prompt", "What?"] if command == "generate" else [str(tmp_path / "exported")])]
    assert main(words) == 2
    assert "Python code of its own" in capsys.readouterr().err and not (tmp_path / "was_run").exists()
    # the code is run; it brings no model that could be loaded
    assert main([*words, "--trust-remote-code"]) == 2
    assert (tmp_path / "was_run").exists()


def test_servers_listen_to_this_machine_alone_unless_told():
    from sightline.app.page import ADDRESS

    assert ADDRESS == "127.0.0.1"
    assert [path.name for path in SOURCES if "0.0.0.0" in path.read_text() and "translate" not in path.parts] == []


def answered(*headers: tuple[bytes, bytes], kind: str = "http", path: str = "/collective_rpc") -> list[dict]:
    """What an app after `RequireKey` sends to a request."""
    sent: list[dict] = []

    async def app(scope, receive, send) -> None:
        await send({"type": "through"})

    async def send(message) -> None:
        sent.append(message)

    asyncio.run(RequireKey(app)({"type": kind, "path": path, "headers": headers}, None, send))
    return sent


def test_a_rollout_server_wants_its_key_for_every_command(monkeypatch):
    monkeypatch.setenv(VARIABLE, "known\n")
    assert answered((b"authorization", b"Bearer known")) == [{"type": "through"}]
    for headers in ((), ((b"authorization", b"Bearer guessed"),), ((b"authorization", b"known"),)):
        assert answered(*headers)[0]["status"] == 401
    assert answered(kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert answered(path="/health") == answered(kind="lifespan", path="") == [{"type": "through"}]


def test_a_trainer_gives_the_key_to_its_rollout_server(monkeypatch, judge):
    monkeypatch.setenv(VARIABLE, "known")
    judge.reply = "done"
    Endpoint(judge.url, 0.0).post("/chat/completions", {"messages": [{"content": ""}]})
    assert [key for _, _, key in judge.requests] == ["Bearer known"]


SECRETS = {
    "OPENAI_API_KEY": "sk-never-to-be-seen-1",
    "HF_TOKEN": "hf_neverToBeSeen2",
    "WANDB_API_KEY": "never0to0be0seen0wandb03",
    "AWS_SECRET_ACCESS_KEY": "never/to/be/seen/aws/4",
}


@pytest.fixture
def judge():
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


def run_command(*words: str) -> subprocess.CompletedProcess:
    environment = os.environ | SECRETS | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sightline.cli.main", *words]
    return subprocess.run(command, env=environment, capture_output=True, timeout=300)


def secrets_in(*contents: bytes) -> list[str]:
    return [secret for secret in SECRETS.values() if any(secret.encode() in content for content in contents)]


def test_keys_reach_the_judge_and_nothing_else(tmp_path, tiny_model, judge):
    """Not the terminal, nor any file of the run: recipe, metrics, answers, checkpoints, report, model card."""
    rows = [{"question": row["question"], "image": f"{i}.png"} for i, row in enumerate(prompts(4))]
    for i, row in enumerate(prompts(4)):
        row["image"].save(tmp_path / f"{i}.png")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {
        "model": str(tiny_model("llava")),
        "output_dir": str(tmp_path / "run"),
        "data": {"source": str(tmp_path / "rows.jsonl"), "media_dir": str(tmp_path)},
        "objective": {"type": "grpo"},
        "rewards": {"judge": {"url": judge.url, "model": "grader"}},
        "sampler": {"type": "transformers", "num_generations": 2, "max_completion_length": 4, "completions_steps": 1},
        "max_steps": 2,
        "save_steps": 1,
        "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0,
        "lora": {"r": 2},
        "layout": "prefix",
        "use_cpu": True,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = run_command("train", str(tmp_path / "recipe.yaml"))
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert {key for _, _, key in judge.requests} == {f"Bearer {SECRETS['OPENAI_API_KEY']}"}
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"recipe.yaml", "metrics.jsonl", "report.html", "README.md", "checkpoint.json"} <= names
    assert secrets_in(done.stdout, done.stderr, *(path.read_bytes() for path in files)) == []


def test_what_a_bug_report_prints_holds_no_key():
    done = run_command("env")
    assert done.returncode == 0 and secrets_in(done.stdout, done.stderr) == []


def test_a_server_that_repeats_the_key_does_not_bring_it_into_the_message(judge):
    judge.refuse.append(401)
    judge.refusal = b"Incorrect API key provided: sk-never-to-be-seen-1"
    with pytest.raises(HTTPFailure) as caught:
        post_json(f"{judge.url}/chat/completions", {}, key="sk-never-to-be-seen-1\n", seconds=5.0, patience=0.0)
    assert "Incorrect API key provided: (key)" in str(caught.value) and caught.value.status == 401
    with pytest.raises(HTTPFailure, match="no header may have") as caught:
        post_json(f"{judge.url}/chat/completions", {}, key="sk-never\nto-be-seen", seconds=5.0, patience=0.0)
    assert "sk-never" not in str(caught.value)


def test_smolvlm_reads_images_without_num2words(tiny_model):
    """Its processor asks for the package, whose licence is the LGPL, though only videos need it."""
    script = (
        "import sys; sys.modules['num2words'] = None\n"
        "from sightline.config import ModelConfig\n"
        "from sightline.models.load import load_processor\n"
        "from tests.groups import make_group\n"
        "from transformers.models.smolvlm import processing_smolvlm as module\n"
        f"processor = load_processor(ModelConfig(name={str(tiny_model('smolvlm'))!r}))\n"
        "assert type(processor).__name__ == 'SmolVLMProcessor'\n"
        "assert module.num2words.__module__ == 'sightline.models.processor'\n"
        "print(len(make_group(processor).prompt_ids))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 10
