"""How a policy's weights get to a vLLM server: an adapter's files, all weights as files, or all weights by NCCL.

Files are written where trainer and server both read them. Every push has a version, by which a server that was started
anew, or that another run pushes to, is recognised.
"""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from torch import Tensor, nn

from sightline.http import HTTPFailure, post_json
from sightline.rollouts.server_key import rollout_key
from sightline.rollouts.vllm_model import checkpoint_weights, save_adapter, save_weights

BASE_MODEL = "policy"
"""What `sightline rollout-server` serves the model as."""

FORGET = ("/reset_mm_cache", "/reset_encoder_cache", "/reset_prefix_cache")
"""What was computed with the old weights; without all three, generation dies of an encoder cache miss."""


@runtime_checkable
class ServerWeights(Protocol):
    """A way of weights to a server. All of its methods raise `HTTPFailure`."""

    def push(self, policy: nn.Module, version: str) -> None:
        """Give the policy's weights to the server under this version, in place of the last ones."""
        ...

    def push_again(self, version: str) -> None:
        """Give a server that was started anew what it had last."""
        ...

    def are_there(self, version: str) -> bool:
        """Whether the server has this version."""
        ...

    def model_name(self, version: str) -> str:
        """What a request names as its model."""
        ...

    def close(self) -> None:
        """Delete files, end connections."""
        ...


LONGEST_REQUEST = 1800.0
"""Seconds that an answer may take from a server that has taken the request: long answers queue."""


class Endpoint:
    """A vLLM server. patience: seconds that it may be away. say: shows the user that it is."""

    def __init__(self, url: str, patience: float, say: Callable[[str], None] = lambda sentence: None) -> None:
        self.url, self.patience, self.say = url.rstrip("/"), patience, say
        self.is_away = False

    def post(self, path: str, body: dict[str, Any] | None) -> Any:
        """The answer to a POST, to a GET with body None. Raises `HTTPFailure`."""
        answer = post_json(
            self.url + path,
            body,
            key=rollout_key(),
            seconds=LONGEST_REQUEST,
            patience=self.patience,
            again=self._tell,
        )
        self.is_away = False
        return answer

    def get(self, path: str) -> Any:
        return self.post(path, None)

    def _tell(self, failure: HTTPFailure) -> None:
        if not self.is_away:
            self.is_away = True
            self.say(f"Waiting for the rollout server, for {self.patience:g} s at most: {failure}")

    def forget(self) -> None:
        """Drop what the server computed with other weights."""
        for path in FORGET:
            self.post(path, {})

    def has_version(self, version: str) -> bool:
        return self.get("/weight_info")["weight_version"] == version


class AdapterFiles:
    """A LoRA adapter as peft writes it, under a new name after every update. folder: that the server reads, too."""

    def __init__(self, server: Endpoint, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.pushed: str | None = None

    def push(self, policy: nn.Module, version: str) -> None:
        save_adapter(policy, self.folder / version)
        last, self.pushed = self.pushed, version
        if last is not None:
            shutil.rmtree(self.folder / last)
            if self.are_there(last):
                self.server.post("/v1/unload_lora_adapter", {"lora_name": last})
        self.push_again(version)

    def push_again(self, version: str) -> None:
        self.server.post(
            "/v1/load_lora_adapter", {"lora_name": version, "lora_path": str((self.folder / version).resolve())}
        )
        self.server.forget()

    def are_there(self, version: str) -> bool:
        return version in [model["id"] for model in self.server.get("/v1/models")["data"]]

    def model_name(self, version: str) -> str:
        return version

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class WeightFiles:
    """All weights as a checkpoint that the server loads in place of its own. folder: that the server reads, too."""

    def __init__(self, server: Endpoint, folder: Path) -> None:
        self.server, self.folder = server, folder

    def push(self, policy: nn.Module, version: str) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        save_weights(policy, self.folder / version)
        self.push_again(version)

    def push_again(self, version: str) -> None:
        path = str((self.folder / version).resolve())
        self.server.post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": path}})
        self.server.forget()
        self.server.post("/update_weight_version", {"new_version": version})

    def are_there(self, version: str) -> bool:
        return self.server.has_version(version)

    def model_name(self, version: str) -> str:
        return BASE_MODEL

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class NCCLWeights:
    """All weights from GPU to GPU, by vLLM's own weight transfer; trainer and server must be different GPUs."""

    def __init__(self, server: Endpoint, address: str, port: int) -> None:
        """address, port: of this process, as the server reaches it."""
        self.server, self.address, self.port = server, address, port
        self.engine: Any = None
        self.policy: nn.Module | None = None

    def push(self, policy: nn.Module, version: str) -> None:
        self.policy = policy
        if self.engine is None:
            self.engine = self._connect()
        self.engine.send_weights()
        self.server.forget()
        self.server.post("/update_weight_version", {"new_version": version})

    def _connect(self) -> Any:
        from vllm.distributed.weight_transfer import (  # pyright: ignore[reportMissingImports]
            clients,
            nccl_engine,
        )

        # asked first, with patience: a server that is still loading would make the two wait for each other
        world = self.server.get("/get_world_size")["world_size"]
        info = nccl_engine.NCCLTrainerInitInfo(
            master_address=self.address, master_port=self.port, world_size=1 + world, rank=0
        )
        server = Endpoint(self.server.url, 0.0)  # a transfer that broke off is not to be begun in its middle

        class Client(clients.HTTPVLLMWeightSyncClient):
            """With the server's key, and failures that are told like all others."""

            def _post(self, path: str, json: dict[str, Any] | None = None) -> None:
                server.post(f"/{path}", json or {})

        sender = nccl_engine.NCCLTrainerWeightTransferEngine
        return sender.trainer_init(info, client=Client(server.url), source=PolicySource(self))

    def push_again(self, version: str) -> None:
        """The group of a server that was started anew is gone with it: connect once more."""
        assert self.policy is not None
        self.engine.shutdown()
        self.engine = None
        self.push(self.policy, version)

    def are_there(self, version: str) -> bool:
        return self.server.has_version(version)

    def model_name(self, version: str) -> str:
        return BASE_MODEL

    def close(self) -> None:
        if self.engine is not None:
            self.engine.shutdown()


class PolicySource:
    """The policy's weights by their checkpoint names, as vLLM's `WeightSource` wants them: announced, then read."""

    def __init__(self, weights: NCCLWeights) -> None:
        self.weights = weights

    def metadata(self) -> list[Any]:
        """Name, precision and shape of each weight, in the order in which they are read."""
        from vllm.distributed.weight_transfer.base import ParamMeta  # pyright: ignore[reportMissingImports]

        return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        assert self.weights.policy is not None
        return checkpoint_weights(self.weights.policy)


def address_towards(url: str) -> str:
    """This machine's address as the server of `url` sees it. Nothing is sent."""
    found = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((found.hostname or "127.0.0.1", found.port or 80))
        return probe.getsockname()[0]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
