"""JSON over HTTP by httpx: judges and rollout servers are asked through it. Parallel requests share their connections.

A server that is busy (429), failing (5xx) or away is asked again, after one second, two, four and so on.
"""

import json
import os
import re
import ssl
import time
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may fix."""

LONGEST_PAUSE = 30.0
"""Seconds between two tries at most."""

KEPT_OPEN = 2.0
"""Seconds that an idle connection is kept: less than servers do (vLLM: 5), or a request would meet a closed one."""


ONE_CLIENT = Lock()
"""Requests that begin together must not make a client each."""


class HTTPFailure(Exception):
    """The server could not be reached, or refused; the message says what it said. status: None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NoAddress(HTTPFailure):
    """What stands where an address should is none; asking again would not help."""


def post_json(
    url: str,
    body: dict[str, Any] | None,
    *,
    key: str | None = None,
    seconds: float,
    patience: float,
    again: Callable[[HTTPFailure], None] = lambda failure: None,
) -> Any:
    """The answer to a POST (to a GET with body None), as an object; None for an empty or plain one.

    key: bearer token; it stands in no message, though the server may repeat it. seconds: for one try. patience: seconds
    from the first failure on in which to try again. again: told of every failure after which it is tried again.
    Raises `HTTPFailure`.
    """
    import httpx

    key = key.strip() if key else None
    if key and not (key.isascii() and key.isprintable()):
        raise HTTPFailure(f"the key for {url} holds characters that no header may have (a line break?)")
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    data = None if body is None else json.dumps(body).encode()
    if not re.fullmatch(r"https?://[^/\s]\S*", url):
        raise NoAddress(f"`{url}` is no address; it has the form http://HOST:PORT")
    method, pause, gone_since = "GET" if data is None else "POST", 1.0, None
    while True:
        try:
            with ONE_CLIENT:
                client = _client(os.getpid())
            answer = client.request(method, url, content=data, headers=headers, timeout=seconds)
            if answer.status_code < 400:
                return _read(answer.content)
            said = (answer.text.replace(key, "(key)") if key else answer.text)[:500]
            failure = HTTPFailure(
                f"{url} answered {answer.status_code} {answer.reason_phrase}: {said}", answer.status_code
            )
            if answer.status_code not in AGAIN:
                raise failure
        except httpx.InvalidURL:
            raise NoAddress(f"`{url}` is no address; it has the form http://HOST:PORT") from None
        except httpx.RequestError as error:
            failure = HTTPFailure(f"{url} cannot be reached: {error or type(error).__name__}")
        gone_since = gone_since or time.monotonic()
        if time.monotonic() + pause - gone_since > patience:
            raise failure
        again(failure)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


@cache
def _client(process: int) -> "httpx.Client":
    """The connections of this process: a forked one must not share them. Certificates are the system's."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEPT_OPEN)
    return httpx.Client(limits=limits, verify=ssl.create_default_context(), follow_redirects=True)


def _read(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except json.JSONDecodeError:
        return None
