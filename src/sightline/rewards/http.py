"""JSON over HTTP by the standard library: what an OpenAI-compatible server wants and answers.

A server that is busy (429), failing (5xx) or away is asked again, each time after twice as long.
"""

import json
import time
import urllib.error
import urllib.request
from typing import Any

AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may mend."""


class HTTPFailure(Exception):
    """The server could not be reached, or refused; the message says what it answered."""


def post_json(
    url: str, body: dict[str, Any], *, key: str | None = None, seconds: float, retries: int, pause: float = 1.0
) -> Any:
    """The answer to a POST. key: bearer token. seconds: for one try. Raises `HTTPFailure` when all tries fail."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    for attempt in range(retries + 1):
        last = attempt == retries
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if last or error.code not in AGAIN:
                said = error.read().decode("utf-8", "replace")[:300]
                raise HTTPFailure(f"{url} answered {error.code} {error.reason}: {said}") from None
        except (OSError, TimeoutError) as error:
            if last:
                reason = getattr(error, "reason", error)
                raise HTTPFailure(f"{url} cannot be reached: {reason}") from None
        time.sleep(pause * 2**attempt)
    raise AssertionError("the last try returns or raises")
