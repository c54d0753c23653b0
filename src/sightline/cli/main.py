"""`sightline COMMAND …`: finds the command and turns errors into exit codes.

0 done, 1 failed, 2 the user's mistake, 70 a fault of Sightline's, 130 Ctrl-C, 141 a reader that has read enough.

Nothing heavy is imported before the command is known, so that `--help` answers at once.
"""

import contextlib
import importlib
import os
import select
import sys
from typing import Any

from sightline import __version__
from sightline.cli.terminal import paint
from sightline.errors import RunFailed, UserError, did_you_mean

COMMANDS = {
    "quickstart": "the whole journey on the embedded model: pairs, DPO, report",
    "train": "train as a recipe says: RECIPE.yaml [--flags], or flags alone",
    "pairs": "preference pairs from a model's own answers to your images",
    "plan": "how much memory a recipe takes, and what makes it fit a GPU",
    "export": "merge an adapter; a model that transformers and vLLM load",
    "generate": "answer a question about an image",
    "evaluate": "score a model, with intervals",
    "compare": "two or more models side by side on the same questions",
    "recipe": "list and copy recipes; translate those of TRL or LLaMA-Factory",
    "data": "look at rows, name their defects, convert, split",
    "completion": "a script that completes commands and flags in your shell",
    "rollout-server": "vLLM for a recipe whose answers are sampled by a server",
    "env": "versions and devices, for bug reports",
}
"""Every command and what it is for; `sightline.cli.NAME` holds its `run(argv) -> int`."""


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        code = _run(argv)
        sys.stdout.flush()  # here, where it can be told, and not while the interpreter ends
        return code
    except UserError as error:
        print_error(f"error: {error}")
        return 2
    except RunFailed as error:
        print_error(f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        print_error("stopped")
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and any(_reader_gone(stream) for stream in (sys.stdout, sys.stderr)):
            return PIPE_CLOSED
        from sightline.cli.fault import told

        paragraph, code = told(error, argv)
        print_error(paragraph)
        return code
    finally:
        _drop_what_cannot_be_written()


PIPE_CLOSED = 141
"""What a shell says of a program that SIGPIPE ended: `sightline … | head` has read enough."""


def _reader_gone(stream: Any) -> bool:
    """Whether a stream is a pipe that nobody reads any more; a worker's pipe that broke is another matter."""
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


def _drop_what_cannot_be_written() -> None:
    """A closed pipe or a full disk behind standard output has been told; the interpreter would complain again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(paint(usage()))
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"sightline {__version__}")
        return 0
    return importlib.import_module(f"sightline.cli.{command_named(argv[0]).replace('-', '_')}").run(argv[1:])


def print_error(message: str) -> None:
    """On stderr; where `sightline train` started this process as one of several, it prints for all of them."""
    if "SIGHTLINE_LAUNCHED" in os.environ:
        from sightline.training.distributed.launcher import hand_to_launcher

        if hand_to_launcher(message):
            return
    print(message, file=sys.stderr)


def command_named(word: str) -> str:
    """The command's module name. Raises `UserError` with the nearest command."""
    if word in COMMANDS:
        return word
    hint = did_you_mean(word, COMMANDS, f"Known: {', '.join(COMMANDS)}.", written="`sightline {}`")
    raise UserError(f"There is no command `{word}`. {hint}")


def usage() -> str:
    """What `sightline --help` prints, within 80 columns."""
    lines = [
        "sightline: preference alignment for vision-language models",
        "",
        "usage: sightline COMMAND [arguments]        sightline COMMAND --help",
        "",
    ]
    for name, purpose in COMMANDS.items():
        lines.append(f"  {name:<15} {purpose}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
