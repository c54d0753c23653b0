"""JSON over HTTP by the standard library: judges and rollout servers are asked through it.

A server that is busy (429), failing (5xx) or away is asked again, after one second, two, four and so on.
"""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, InvalidURL
from typing import Any

AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may mend."""

LONGEST_PAUSE = 30.0
"""Seconds between two tries at most."""


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
    key = key.strip() if key else None
    if key and not (key.isascii() and key.isprintable()):
        raise HTTPFailure(f"the key for {url} holds characters that no header may have (a line break?)")
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    data = None if body is None else json.dumps(body).encode()
    if not re.match(r"https?://[^/]", url):
        raise NoAddress(f"`{url}` is no address; it has the form http://HOST:PORT")
    request = urllib.request.Request(url, data, headers)
    pause, gone_since = 1.0, None
    while True:
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return _read(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace")
            said = (said.replace(key, "(key)") if key else said)[:500]
            failure = HTTPFailure(f"{url} answered {error.code} {error.reason}: {said}", error.code)
            if error.code not in AGAIN:
                raise failure from None
        except InvalidURL:
            raise NoAddress(f"`{url}` is no address; it has the form http://HOST:PORT") from None
        # a server that dies while it answers breaks off in the middle, which is no OSError
        except (OSError, HTTPException) as error:
            failure = HTTPFailure(f"{url} cannot be reached: {getattr(error, 'reason', None) or error}")
        gone_since = gone_since or time.monotonic()
        if time.monotonic() + pause - gone_since > patience:
            raise failure
        again(failure)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _read(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except json.JSONDecodeError:
        return None
