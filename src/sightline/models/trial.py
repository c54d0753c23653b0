"""Chat templates, tokenizers and patterns of others, tried in a process of its own before they are used.

A template may loop for ever or write gigabytes, and a regular expression may take longer than the universe has; neither
can be interrupted from Python. The trial is a fork with little time and memory, which the operating system ends. What
gets done within both is then used as it is. Left out: a template that waits for a certain text of the data.
"""

import os
import re
import resource
import select
import signal
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from transformers import ProcessorMixin

from sightline.errors import ModelError, shown

SECONDS = 10
"""Of processor time; a large template takes milliseconds."""
LONGEST_WAIT = 120
"""Seconds, on a machine that is busy with other things."""
BYTES = 2**30
"""Of memory on top of what this process has."""
TURNS = (1, 2, 16, 64)
CHARACTERS = 4_000
"""Of the long texts that are tried."""


def try_out(work: Callable[[], object], what: str, advice: str) -> None:
    """Run `work` in a process of its own. Raises `ModelError` where it takes too long or too much, or raises.

    what: the subject of the sentence. advice: the sentence after it. What `work` changes or returns is lost.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: `work` needs none of them
        child = os.fork()
    if child == 0:
        _work_and_end(work, writing)
    os.close(writing)
    try:
        is_done = select.select([reading], [], [], LONGEST_WAIT)[0]
        said = os.read(reading, 4096).decode(errors="replace") if is_done else ""
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if said != "done":
        why = said or f"is not done after {SECONDS} s"
        raise ModelError(f"{what} {why}. {advice}")


def _work_and_end(work: Callable[[], object], writing: int) -> NoReturn:
    """In the child: what went wrong is written to the pipe; a child that runs out of time writes nothing."""
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads are not in this process
        _limit(resource.RLIMIT_CPU, SECONDS)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_AS, _bytes_now() + BYTES)
        work()
        said = "done"
    except MemoryError:
        said = f"takes more than {BYTES >> 30} GiB of memory"
    except BaseException as error:  # tokenizers panic with one that is no Exception
        said = f"fails: {shown(error, 200) or type(error).__name__}"
    os.write(writing, said.encode(errors="replace"))
    os._exit(0)


def _limit(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _bytes_now() -> int:
    """Address space of this process; more than any where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 2**62


def try_processor(processor: ProcessorMixin, name: str) -> None:
    """Raises `ModelError` for a chat template or a tokenizer that never gets done, or with too much."""
    files = "Take the files from the model's source, and fix what is in them."
    if getattr(processor, "tokenizer", None) is None:
        return
    try_out(lambda: _tokenize(processor.tokenizer), f"The tokenizer of {shown(name)!r}, given long words,", files)
    if processor.chat_template is not None or processor.tokenizer.chat_template is not None:
        what = f"The chat template of {shown(name)!r}, given conversations of up to {max(TURNS)} turns,"
        try_out(lambda: _render(processor), what, files)


def _tokenize(tokenizer: Any) -> None:
    for word in ("a", "Ab", "1", " ", "\n", ".", "é", "語", "a1 ", "aA.\n"):
        tokenizer((word * CHARACTERS)[:CHARACTERS] + "!", add_special_tokens=False)


def _render(processor: ProcessorMixin) -> None:
    """Conversations that grow. What a template refuses is told where rows are rendered."""
    image = [{"type": "image"}]
    for turns in TURNS:
        for text in ("probe", "probe " * (CHARACTERS // 6 // turns)):
            spoken = [{"type": "text", "text": text}]
            roles = ["assistant" if number % 2 else "user" for number in range(turns)]
            turned = [{"role": role, "content": [*(image if role == "user" else []), *spoken]} for role in roles]
            for chat in (turned, [{"role": "system", "content": spoken}, *turned]):
                _applied(processor, chat)


def _applied(processor: ProcessorMixin, chat: list[Any]) -> None:
    try:
        processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=chat[-1]["role"] == "user")
    except MemoryError:
        raise
    except Exception:
        return


def try_patterns(patterns: Iterable[str], names: list[str], what: str) -> None:
    """Raises `ModelError` for regular expressions that do not get done with the names of all layers.

    what: the key that they stand under.
    """
    given = list(patterns)
    for pattern in given:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ModelError(f"`{what}: {shown(pattern)}` is no regular expression: {shown(error)}.") from None
    if given:
        written = shown(given[0] if len(given) == 1 else given)
        try_out(
            lambda: [re.fullmatch(pattern, name) for pattern in given for name in names],
            f"`{what}: {written}`, matched with the names of {len(names)} layers,",
            "Do not repeat what is repeated already, or give the names as a list.",
        )
