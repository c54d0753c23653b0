"""`sightline rollout-server RECIPE.yaml`: vLLM with the flags that a run with `sampler.mode: server` needs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from sightline.cli.arguments import Arguments, whole
from sightline.config import Recipe
from sightline.config.on_disk import refuse_no_model
from sightline.config.online import VLLMSamplerConfig
from sightline.errors import RecipeError, SamplerError
from sightline.recipe import load_recipe
from sightline.rollouts.server_key import RequireKey, check_key, rollout_key

DESCRIPTION = """Serve a recipe's model with vLLM, so that `sightline train` with the same recipe samples from it. Flags
after `--` go to vLLM as they are, for example `-- --gpu-memory-utilization 0.8 --tensor-parallel-size 2`."""

HOST = "address to listen on; another needs a key in $SIGHTLINE_ROLLOUT_KEY [127.0.0.1: this machine alone]"


def run(argv: list[str]) -> int:
    """Start vLLM, stay with it, and return its exit code."""
    mine, vllm = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    arguments = Arguments("rollout-server", DESCRIPTION)
    arguments.add_argument("recipe", metavar="RECIPE.yaml", help="the recipe that will be trained")
    arguments.add_argument("--host", default="127.0.0.1", help=HOST)
    arguments.add_argument("--port", type=whole(1, 65_535), default=8000, help="port to listen on [8000]")
    arguments.epilog = "Any flag of `sightline train` may follow and changes the recipe, as it does there."
    given, changes = arguments.parse_known_args(mine)
    recipe = load_recipe(given.recipe, changes)
    if not isinstance(recipe.sampler, VLLMSamplerConfig) or recipe.sampler.mode != "server":
        raise RecipeError(
            f"{given.recipe} does not sample from a server. Give it `sampler: {{type: vllm, mode: server}}`, or the "
            "flags `--sampler.type vllm --sampler.mode server`, here and in training."
        )
    check_key(given.host)
    if find_spec("vllm") is None:
        raise SamplerError(
            "`sightline rollout-server` runs vLLM, which is not installed in this environment. Install it (docs/"
            "rollout-server.md says how) or run this command in an environment that has both."
        )
    refuse_no_model(recipe.model.name)
    check_address(given.host, given.port)
    return serve(recipe, recipe.sampler, given.host, given.port, vllm)


def check_address(host: str, port: int) -> None:
    """Raises `SamplerError` for a place that is taken or not this machine's."""
    try:
        ((kind, *_, place), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, OverflowError) as error:
        raise SamplerError(
            f"The rollout server cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}. Choose "
            "another port with --port, or an address of this machine with --host."
        ) from None


def serve(recipe: Recipe, sampler: VLLMSamplerConfig, host: str, port: int, more: list[str]) -> int:
    """vLLM as a child of this process, with this recipe's model and processor."""
    from sightline.cli.terminal import quiet

    quiet()
    from sightline.models.load import load_processor
    from sightline.rollouts.vllm_model import engine_folder

    folder = engine_folder(recipe.model, load_processor(recipe.model))
    command = server_command(recipe, sampler, folder, host, port, more)
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    print(f"vLLM serves {recipe.model.name}; train with `--sampler.url http://{host}:{port}`", flush=True)
    child = subprocess.Popen(command, env=environment)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.terminate())
    try:
        return child.wait()
    finally:
        shutil.rmtree(folder)


def server_command(
    recipe: Recipe, sampler: VLLMSamplerConfig, folder: Path, host: str, port: int, more: list[str]
) -> list[str]:
    """The command that starts vLLM; flags of `more` come last and win."""
    import torch

    from sightline.models.load import dtype_of
    from sightline.rollouts.vllm_model import MAX_IMAGES, logprobs_mode, room_for_rank
    from sightline.rollouts.vllm_weights import BASE_MODEL

    cuda = torch.cuda.is_available()
    dtype = str(dtype_of(recipe.model, torch.device("cuda" if cuda else "cpu"))).removeprefix("torch.")
    flags = {
        "--model": str(folder),
        "--served-model-name": BASE_MODEL,
        "--host": host,
        "--port": str(port),
        "--dtype": dtype,
        "--logprobs-mode": logprobs_mode(sampler),
        "--limit-mm-per-prompt": json.dumps({"image": MAX_IMAGES, "video": 0}),
        # sampling is what the recipe says, not what the model's authors like
        "--generation-config": "vllm",
        "--chat-template-content-format": "openai",
    }
    if recipe.lora is not None:
        flags |= {"--max-lora-rank": str(room_for_rank(recipe.lora.r)), "--max-loras": "1"}
    elif cuda:
        flags["--weight-transfer-config"] = json.dumps({"backend": "nccl"})
    switches = ["--enable-lora"] if recipe.lora is not None else []
    switches += ["--trust-remote-code"] if recipe.model.trust_remote_code else []
    switches += [] if cuda else ["--enforce-eager"]
    switches += ["--middleware", f"{RequireKey.__module__}.{RequireKey.__name__}"] if rollout_key() else []
    # the console script of some builds of vLLM does not start
    module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    return [*module, *(word for pair in flags.items() for word in pair), *switches, *more]
