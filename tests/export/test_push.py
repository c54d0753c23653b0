"""`--push-to-hub`: what reaches the hub's end of the network, and what a user reads when the hub says no."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from huggingface_hub import constants

from sightline.cli.main import main
from sightline.config import LoraConfig, ModelConfig
from sightline.errors import UserError
from sightline.export.export import export, push
from sightline.models.load import load_model
from sightline.models.lora import add_lora

NAME = "somebody/shapes"


class Hub(ThreadingHTTPServer):
    """The hub's side of a push. refuses: a path's part that is answered with 403."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.refuses: str | None = None
        self.asked: list[tuple[str, str | None, Any]] = []

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/repos/create"):
            return {"url": f"{self.address}/{NAME}"}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        if "/commit/" in path:
            return {"commitUrl": f"{self.address}/{NAME}/commit/{'0' * 40}", "commitOid": "0" * 40}
        return {}

    def committed(self) -> tuple[str, dict[str, bytes]]:
        """The message and the files of the one commit."""
        (body,) = [body for path, _, body in self.asked if "/commit/" in path]
        lines = [json.loads(line) for line in body.splitlines()]
        files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines[1:]}
        return lines[0]["value"]["summary"], files


class Answers(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        refused = self.server.refuses is not None and self.server.refuses in self.path
        said = {"error": "You have read-only access"} if refused else self.server.answer(self.path, body)
        content = json.dumps(said).encode()
        self.send_response(403 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("adapter")
    add_lora(load_model(ModelConfig(name=str(tiny_model("llava")))), LoraConfig(r=2)).save_pretrained(str(folder))
    return folder


def test_the_whole_folder_is_pushed_and_nothing_else(tmp_path, adapter, hub, capsys):
    words = ["export", str(adapter), str(tmp_path / "model"), "--push-to-hub", NAME, "--private"]
    assert main(words) == 0
    assert f"Pushed to {hub.address}/{NAME}" in capsys.readouterr().out
    created = json.loads(next(body for path, _, body in hub.asked if path.endswith("/repos/create")))
    assert created["visibility"] == "private" and {created["name"], created["organization"]} == {"shapes", "somebody"}
    assert {token for _, token, _ in hub.asked} == {"Bearer hf_secret"}
    summary, files = hub.committed()
    written = {str(p.relative_to(tmp_path / "model")): p for p in (tmp_path / "model").rglob("*") if p.is_file()}
    assert summary == "Export by Sightline" and "model.safetensors" in files and "README.md" in files
    assert f'from_pretrained("{NAME}"' in files["README.md"].decode()
    assert files == {name: path.read_bytes() for name, path in written.items()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory, adapter):
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(str(adapter), folder)
    return folder


@pytest.mark.parametrize("refuses", ["/repos/create", "/commit/"])
def test_a_refusal_is_one_paragraph_that_says_what_is_there_and_what_to_do(exported, hub, refuses):
    hub.refuses = refuses
    with pytest.raises(UserError) as caught:
        push(exported, NAME, private=False)
    said = str(caught.value)
    assert "read-only access" in said and f"{exported} is written" in said and f"hf upload {NAME} {exported}" in said
    assert "\n" not in said and "hf_secret" not in said


def test_a_hub_that_is_not_there_is_said_to_be_so(tmp_path, adapter, exported, hub, capsys, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert main(["export", str(adapter), str(tmp_path / "model"), "--push-to-hub", NAME]) == 2
    said = capsys.readouterr().err
    assert "could not be pushed" in said and "network" in said and "Traceback" not in said
    assert (tmp_path / "model" / "model.safetensors").is_file()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        push(exported, NAME, private=False)


def test_a_name_that_cannot_be_is_refused_before_anything_is_merged(tmp_path, adapter, capsys):
    assert main(["export", str(adapter), str(tmp_path / "model"), "--push-to-hub", "a name/of mine"]) == 2
    assert "no name of a repository" in capsys.readouterr().err and not (tmp_path / "model").exists()
