"""Requests to judges and rollout servers: connections are shared, failures are sentences."""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sightline import http
from sightline.http import HTTPFailure, NoAddress, post_json

PARALLEL = 64


class Server(ThreadingHTTPServer):
    """Answers with what it was sent, once as many requests are there as `together` wants; counts its connections."""

    request_queue_size = PARALLEL

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections, self.together = 0, threading.Barrier(PARALLEL)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self):
        self.connections += 1
        return super().get_request()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.together.wait(60)
        self.send_response(307 if self.path == "/moved" else 200)
        self.send_header("Location", "/here")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http, "KEPT_OPEN", 60.0)
    http._client.cache_clear()
    running = Server()
    yield running
    running.shutdown()
    running.server_close()
    http._client.cache_clear()


def test_64_parallel_requests_reuse_their_connections(server):
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    for _ in range(3):
        with ThreadPoolExecutor(PARALLEL) as pool:
            answers = pool.map(lambda i: post_json(url, {"i": i}, seconds=60.0, patience=0.0), range(PARALLEL))
            assert [answer["i"] for answer in answers] == list(range(PARALLEL))
    assert server.connections == PARALLEL


def test_a_server_that_moved_is_followed(server):
    server.together = threading.Barrier(1)
    url = f"http://127.0.0.1:{server.server_address[1]}/moved"
    assert post_json(url, {"a": 1}, seconds=60.0, patience=0.0) == {"a": 1}


@pytest.mark.parametrize("url", ["127.0.0.1:80", "http://", "ftp://host/", "http://host:port/v1", "http://ho st/"])
def test_what_is_no_address_is_said_at_once(url):
    with pytest.raises(NoAddress, match="is no address; it has the form http://HOST:PORT"):
        post_json(url, None, seconds=5.0, patience=60.0)


def test_a_server_that_is_away_is_a_sentence_without_a_status():
    with pytest.raises(HTTPFailure, match=r"127\.0\.0\.1:9 cannot be reached: .*refused") as caught:
        post_json("http://127.0.0.1:9", {}, seconds=5.0, patience=0.0)
    assert caught.value.status is None
