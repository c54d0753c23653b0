"""The key of a rollout server: who knows it may send weights and commands.

vLLM's own `--api-key` guards `/v1` and its like alone; `/collective_rpc` and what takes weights would answer anybody.
"""

import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sightline.errors import UserError

VARIABLE = "SIGHTLINE_ROLLOUT_KEY"
"""Environment variable that holds it, where the server runs and where the run trains."""

HERE = ("127.0.0.1", "localhost", "::1")
OPEN = ("/health",)
"""Says that the server lives, and nothing else."""

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def rollout_key() -> str | None:
    """The key; None where there is none."""
    return os.environ.get(VARIABLE, "").strip() or None


def check_key(host: str) -> None:
    """Raises `UserError` where a server would listen to other machines without a key."""
    if host not in HERE and rollout_key() is None:
        raise UserError(
            f"`--host {host}` listens to other machines, and whoever reaches the server could send it weights and "
            f"commands. Set {VARIABLE} to a secret of your own (`export {VARIABLE}=$(openssl rand -hex 32)`), here and "
            "where the run trains, or leave `--host` out."
        )


class RequireKey:
    """ASGI middleware: answers 401 to every request without the key (`vllm --middleware`)."""

    def __init__(self, app: App) -> None:
        key = rollout_key()
        assert key is not None, f"{VARIABLE} is set where this is asked for"
        self.app, self.expected = app, f"Bearer {key}".encode()

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """One request."""
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        asks = scope["type"] in ("http", "websocket") and scope["path"] not in OPEN
        if not asks or secrets.compare_digest(given, self.expected):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": f"this server wants the key in ${VARIABLE}".encode()})
