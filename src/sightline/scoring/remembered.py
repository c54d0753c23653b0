"""Replies of a judge on disk: a command that is killed asks nothing twice when it goes on."""

import json
import os
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any


class Remembered:
    """Replies by what was asked, in a JSONL file that only grows; several threads may use it.

    A last line that was cut off while it was written is dropped: that question is asked again.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, Lock()
        self.replies: dict[str, str] = {}
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                os.truncate(path, len(whole))
            self.replies = dict(json.loads(line) for line in whole.decode().splitlines())

    def __len__(self) -> int:
        return len(self.replies)

    @staticmethod
    def key(asked: Any) -> str:
        """The same for the same question: plain values, images as data URIs."""
        return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]

    def get(self, key: str) -> str | None:
        """The reply to what this is the key of; None where it was never asked."""
        return self.replies.get(key)

    def put(self, key: str, reply: str) -> None:
        """Keep a reply."""
        with self.lock:
            self.replies[key] = reply
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, reply], ensure_ascii=False) + "\n")
