import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from sightline.errors import RewardError
from sightline.rewards.completions import question_of
from sightline.rewards.judge import Judge


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint that grades by the mean brightness of the image, and keeps what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.refuse = []
        self.refusal = b"not now"
        self.reply = None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body, self.headers.get("Authorization")))
        if self.server.refuse:
            self.send_response(self.server.refuse.pop())
            self.end_headers()
            self.wfile.write(self.server.refusal)
            return
        reply = self.server.reply or f"Grade: {10 * brightness(body)}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": reply}}]}).encode())

    def log_message(self, *args):
        pass


def brightness(body):
    url = next(part["image_url"]["url"] for part in body["messages"][1]["content"] if part["type"] == "image_url")
    image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    return image.convert("L").getpixel((0, 0)) / 255


@pytest.fixture
def server():
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


def grade(server, *, white=True, **options):
    judge = Judge(url=server.url, model="judge-1", **options)
    image = Image.new("RGB", (4, 4), "white" if white else "black")
    return judge(["It is blank."], prompts=["What is it?"], images=[[image]], solution=["Blank."])


def test_the_judge_sees_image_question_and_answer(server, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    assert grade(server, key_variable="JUDGE_KEY", column="solution") == [1.0]
    assert grade(server, white=False) == [0.0]
    path, body, key = server.requests[0]
    text = body["messages"][1]["content"][-1]["text"]
    assert path == "/v1/chat/completions" and body["model"] == "judge-1" and key == "Bearer secret"
    assert "What is it?" in text and "It is blank." in text and "Blank." in text
    assert "from 0 (useless or wrong) to 10 (perfect)" in body["messages"][0]["content"]


@pytest.mark.parametrize(("reply", "score"), [("7", 0.7), ("Score: 3.5/10", 0.35), ("99", 1.0), ("Good!", None)])
def test_grades_are_read_from_the_reply(server, reply, score):
    server.reply = reply
    assert grade(server) == [score]


def test_a_busy_server_is_asked_again(server):
    server.refuse = [503]
    assert grade(server, patience=5.0) == [1.0]
    assert len(server.requests) == 2


def test_a_refusal_is_an_error_with_what_the_server_said(server):
    server.refuse = [401]
    with pytest.raises(RewardError, match=r"401 .*not now.*OPENAI_API_KEY"):
        grade(server)


def test_a_server_that_is_not_there_is_an_error():
    judge = Judge(url="http://127.0.0.1:9/v1", model="judge-1", patience=0.0)
    with pytest.raises(RewardError, match="cannot be reached"):
        judge(["a"], prompts=["b"])


def test_questions_are_read_from_messages():
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}
    assert question_of([turn]) == question_of("How many?") == "How many?"
    assert question_of([{"role": "system", "content": "Be brief."}, turn]) == "system: Be brief.\nuser: How many?"
