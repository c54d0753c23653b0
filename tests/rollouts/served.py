"""A server that answers like vLLM's, for faults that a real one has only by accident (tests/vllm runs a real one)."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]
"""Status and body."""


class ServerDied(Exception):
    """Raised by a server that is asked, in place of an answer."""


class FakeVLLM:
    """Has adapters and a version of its weights. answer: to a chat completion; trouble: statuses to begin
    with. breaks_off: answers to chat completions that end in their middle. reports: a version that it claims to have.
    models: what it lists in place of its own. authorised: what came as `Authorization`."""

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.answer = answer
        self.adapters: list[str] = []
        self.version = "default"
        self.reports: str | None = None
        self.trouble: list[int] = []
        self.breaks_off = 0
        self.models: Any = ...
        self.authorised: list[str | None] = []
        self.asked: list[tuple[str, Any]] = []
        self.url = ""

    def reply(self, path: str, body: Any) -> Answer:
        """What the server says."""
        self.asked.append((path, body))
        if self.trouble:
            return self.trouble.pop(0), {"error": "busy"}
        match path:
            case "/v1/chat/completions":
                if body["model"] not in ["policy", *self.adapters]:
                    return 404, {"error": f"The model `{body['model']}` does not exist."}
                return 200, self.answer(body)
            case "/v1/load_lora_adapter":
                self.adapters.append(body["lora_name"])
            case "/v1/unload_lora_adapter":
                self.adapters.remove(body["lora_name"])
            case "/update_weight_version":
                self.version = body["new_version"]
            case "/weight_info":
                return 200, {"weight_version": self.reports or self.version}
            case "/v1/models":
                own = {"data": [{"id": name} for name in ["policy", *self.adapters]]}
                return 200, own if self.models is ... else self.models
        return 200, {}

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class Place:
    """A port of this machine on which a server comes and goes; nobody else gets it meanwhile."""

    def __init__(self, server: FakeVLLM) -> None:
        self.server = server
        self.kept = socket.socket()
        self.kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.kept.bind(("127.0.0.1", 0))  # and never listens: what connects is refused while no server does
        server.url = f"http://127.0.0.1:{self.kept.getsockname()[1]}"
        self.http: ThreadingHTTPServer | None = None

    def come(self) -> None:
        """The server listens."""
        self.http = ThreadingHTTPServer(self.kept.getsockname(), handler_of(self.server))
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def go(self) -> None:
        """It does not any more; what it is answering is not sent."""
        http, self.http = self.http, None
        if http is not None:
            http.shutdown()
            http.server_close()

    def close(self) -> None:
        """For ever."""
        self.go()
        self.kept.close()


def handler_of(server: FakeVLLM) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            server.authorised.append(self.headers.get("Authorization"))
            try:
                status, said = server.reply(self.path, json.loads(self.rfile.read(length)) if length else None)
            except ServerDied:
                return  # without a word
            answer = json.dumps(said).encode()
            self.send_response(status)
            if self.path == "/v1/chat/completions" and server.breaks_off:
                server.breaks_off -= 1
                self.send_header("Content-Length", str(2 * len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = _respond

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(server: FakeVLLM) -> Iterator[FakeVLLM]:
    """The server on a free port."""
    place = Place(server)
    place.come()
    try:
        yield server
    finally:
        place.close()
