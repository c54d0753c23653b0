"""A stand-in for a judge behind an OpenAI-compatible endpoint."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict], Callable[[list], None]]]:
    """A server that answers from a script of statuses and texts, and keeps what it was asked."""
    asked: list[dict] = []
    script: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, text = script.pop(0) if script else (200, "second")
            body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}/v1", asked, script.extend
    running.shutdown()
    running.server_close()
