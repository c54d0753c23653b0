"""Conversations → strings, by the model's own chat template, cut where the responses begin and end.

A template is usable when the rendered prompt is a string prefix of prompt + response, so that the model answers in
training to what it answers to in generation. A turn ends with the first control token that the template writes after
an assistant's text; what follows that token (a line break) is not part of the response.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2.exceptions import TemplateError
from transformers import ProcessorMixin

from sightline.data.defects import RowError
from sightline.data.formats.content import IMAGE_PART, Message, assistant, user
from sightline.errors import ModelError, shown

PROBE = "probe"
LONGEST_MARKUP = 1_000_000
"""Characters that a template may add to a conversation; more are no markup."""
OPENED = re.compile(r"<[^<>/\s]+>\s*\Z")
"""A tag at the end."""


class Piece(NamedTuple):
    """A stretch of a response's text, and how much its tokens weigh as targets."""

    text: str
    weight: float


class ChatTemplate:
    """The chat template of a processor.

    markup: matches any added token of the tokenizer. after_response: what the template writes after an assistant's
    text. opening: what a prompt ends with where it opens a tag that the response is to close (`<think>`), else "".
    end_of_turn: its head up to the control token that makes the model stop; the tokenizer's eos_token where the
    template has none. image_mark: the token that stands for an image, once each. own_tokens: all that it writes.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        self.processor = processor
        tokenizer = processor.tokenizer
        self.markup = _any_of({str(token) for token in tokenizer.added_tokens_decoder.values()})
        question, answer = user(PROBE, "the probe"), assistant(PROBE, "the probe")
        try:
            full = self._apply((question, answer), False)
            plain = self._apply((question,), True)
            shown = self._apply(({**question, "content": [dict(IMAGE_PART), *question["content"]]},), True)
        except Exception as error:  # whatever a template does with what it does not have
            raise ModelError(
                f"The chat template refuses a question with an answer: {_said(error)}. Fix the template, or take the "
                "one of the model's source."
            ) from error
        if PROBE not in full:
            raise ModelError(
                f"The chat template writes the answer {PROBE!r} as {full[-60:]!r}, so what it would train is unknown. "
                "Use a template that writes messages as they are."
            )
        self.after_response = full[full.rindex(PROBE) + len(PROBE) :]
        self.opening = self._opening(question, answer, plain)
        end = self.markup.search(self.after_response)
        self.template_ends_turns = end is not None
        self.end_of_turn = self.after_response[: end.end()] if end else tokenizer.eos_token
        if not self.end_of_turn:
            raise ModelError(
                "The chat template ends no turn with a control token and the tokenizer has no eos_token, so the model "
                "could never learn to stop. Set eos_token in the processor's tokenizer_config.json."
            )
        self.image_mark = self._find_image_mark(plain, shown)
        self.own_tokens = frozenset(self.markup.findall(full + shown)) | {str(tokenizer.eos_token)}
        self._orders: dict[Any, list[int]] = {}

    def _opening(self, question: Message, answer: Message, prompt: str) -> str:
        """What `prompt` has after the header that every response has, where that is a tag which nothing closes."""
        try:
            asked, later = self._apply((question,), False), self._apply((question, answer, question), True)
        except Exception:  # whatever a template for one turn does with two
            return ""
        begun, rest = prompt.removeprefix(asked), later.removeprefix(asked)
        header = rest[: max(rest.find(PROBE), 0)]
        opening = begun.removeprefix(header)
        found = begun != prompt and rest != later and opening != begun and OPENED.search(opening)
        return opening if found else ""

    def prompt(self, messages: tuple[Message, ...], where: str) -> str:
        """The text that the model answers to. Raises `RowError` where a message's text is not in it."""
        text = self._render(messages, True, where)
        self._require_texts(messages, text, where)
        return text

    def response(
        self, prompt: str, messages: tuple[Message, ...], answer: tuple[Message, ...], where: str
    ) -> list[Piece]:
        """What follows `prompt`, the rendered `messages`: assistant turns weigh 1, or as they say, all else 0.

        Raises `RowError` where the template rewrites what it wrote before, or leaves a text out.
        """
        pieces: list[Piece] = []
        written = prompt
        for i, message in enumerate(answer):
            so_far = (*messages, *answer[: i + 1])
            is_last = i + 1 == len(answer)
            if message["role"] == "assistant":
                spoken = self._spoken(written, so_far, where)
                end = self.end_of_turn if is_last or self.template_ends_turns else ""
                # a turn right after another's comes with its header, which the model never has to write
                header = _header(spoken, message) if i and answer[i - 1]["role"] == "assistant" else ""
                turn = [Piece(header, 0.0)] if header else []
                turn.append(Piece(spoken[len(header) :] + end, message.get("weight", 1.0)))
            else:
                answered = not is_last and answer[i + 1]["role"] == "assistant"
                turn = [Piece(_continuation(written, self._render(so_far, answered, where), where), 0.0)]
            text = "".join(piece.text for piece in turn)
            _require_in_order([message], [0], text, where)
            pieces += turn
            written += text
        return pieces

    def _spoken(self, written: str, messages: tuple[Message, ...], where: str) -> str:
        """The last assistant turn without what the template writes after it."""
        spoken = _continuation(written, self._render(messages, False, where), where)
        if not spoken.endswith(self.after_response):
            what = f"the chat template ends a turn with {spoken[-30:]!r} instead of {self.after_response!r}"
            raise RowError("template changes the text", where, what)
        return spoken[: len(spoken) - len(self.after_response)]

    def _render(self, messages: tuple[Message, ...], add_generation_prompt: bool, where: str) -> str:
        try:
            return self._apply(messages, add_generation_prompt)
        except Exception as error:
            what = f"the chat template says: {_said(error)}"
            raise RowError("template refuses the conversation", where, what) from error

    def _apply(self, messages: tuple[Message, ...], add_generation_prompt: bool) -> str:
        plain = [{"role": message["role"], "content": message["content"]} for message in messages]
        text = self.processor.apply_chat_template(plain, tokenize=False, add_generation_prompt=add_generation_prompt)
        given = sum(len(part.get("text", "")) for message in plain for part in message["content"])
        if len(text) > LONGEST_MARKUP + 10 * given:
            raise TemplateError(f"it makes {len(text):,} characters of {given:,}")
        return text

    def _require_texts(self, messages: tuple[Message, ...], text: str, where: str) -> None:
        """Raise `RowError` where the template leaves out or changes a message's text."""
        shape = tuple((m["role"], tuple(p["type"] for p in m["content"])) for m in messages)
        if shape not in self._orders:
            self._orders[shape] = self._order(messages, where)
        _require_in_order(messages, self._orders[shape], text, where)

    def _order(self, messages: tuple[Message, ...], where: str) -> list[int]:
        """Numbers of the messages in the order in which the template writes them, found with words in their stead.

        Mistral's templates, for one, put the system turn before the last question.
        """
        marked = [
            {**m, "content": [{**p, "text": f"q{i:04}x{j:04}q"} if "text" in p else p for j, p in enumerate(parts)]}
            for i, m in enumerate(messages)
            for parts in [m["content"]]
        ]
        try:
            text = self._apply(tuple(marked), True)
        except Exception:
            return list(range(len(messages)))  # a template that looks at the texts
        found = [int(number) for number in re.findall(r"q(\d{4})x\d{4}q", text)]
        written = set(re.findall(r"q\d{4}x\d{4}q", text))
        for message, original in zip(marked, messages, strict=True):
            for part, given in zip(message["content"], original["content"], strict=True):
                if part.get("text", "") not in ("", *written) and given["text"].strip():
                    raise _left_out(original["role"], given["text"], where)
        return list(dict.fromkeys(found))

    def _find_image_mark(self, plain: str, shown: str) -> str:
        """The first token that an image adds to a prompt."""
        before, after = self.markup.findall(plain), self.markup.findall(shown)
        added = [token for token in dict.fromkeys(after) if after.count(token) > before.count(token)]
        if not added:
            raise ModelError(
                "The chat template leaves images out: a prompt reads the same with and without one. "
                "Use the chat template of a vision-language model."
            )
        return added[0]


class PlainTemplate:
    """For processors without a chat template that write the prompt themselves (base PaliGemma).

    Images, then the question. Takes a single user turn and a single answer.
    """

    opening = ""

    def __init__(self, processor: ProcessorMixin) -> None:
        tokenizer = processor.tokenizer
        self.markup = _any_of({str(token) for token in tokenizer.added_tokens_decoder.values()})
        self.end_of_turn = tokenizer.eos_token
        self.image_mark = processor.image_token
        self.own_tokens = frozenset({str(tokenizer.eos_token), self.image_mark})

    def prompt(self, messages: tuple[Message, ...], where: str) -> str:
        """Image tokens and the question; the processor adds the rest. Raises `RowError` for a longer conversation."""
        if [m["role"] for m in messages] != ["user"]:
            what = f"without a chat template one user turn is read, got {', '.join(m['role'] for m in messages)}"
            raise RowError("template refuses the conversation", where, what)
        parts = messages[0]["content"]
        num_images = sum(p["type"] == "image" for p in parts)
        return self.image_mark * num_images + "".join(p["text"] for p in parts if p["type"] == "text")

    def response(
        self, prompt: str, messages: tuple[Message, ...], answer: tuple[Message, ...], where: str
    ) -> list[Piece]:
        """The answer and the end-of-sequence token. Raises `RowError` for more than one turn."""
        if len(answer) != 1:
            raise RowError("template refuses the conversation", where, f"one answer is read, got {len(answer)} turns")
        return [Piece("".join(p["text"] for p in answer[0]["content"]) + self.end_of_turn, 1.0)]


def template_of(processor: ProcessorMixin) -> ChatTemplate | PlainTemplate:
    """How a processor's prompts are written. Raises `ModelError` where there is no chat template, save PaliGemma's."""
    if processor.chat_template is not None or processor.tokenizer.chat_template is not None:
        return ChatTemplate(processor)
    if type(processor).__name__ == "PaliGemmaProcessor":
        return PlainTemplate(processor)
    raise ModelError(
        f"The processor ({type(processor).__name__}) has no chat template, so how to ask the model is unknown. "
        "Put a chat_template.jinja next to the model's files, for instance that of its instruction-tuned sibling."
    )


def control_tokens(processor: ProcessorMixin, allowed: Sequence[str] = ()) -> re.Pattern[str]:
    """Matches what may never come from a row's own text: special tokens and the processor's image placeholders.

    allowed: those that may.
    """
    special = {str(token) for token in processor.tokenizer.added_tokens_decoder.values() if token.special}
    placeholders = {v for k, v in vars(processor).items() if k.endswith("_token") and isinstance(v, str)}
    return _any_of((special | placeholders) - set(allowed))


def _any_of(tokens: set[str]) -> re.Pattern[str]:
    """Longest first, so that a token is not taken for its own beginning."""
    return re.compile("|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True) if t) or r"(?!)")


def _said(error: Exception) -> str:
    """What a template that failed says, its own words or Python's."""
    if isinstance(error, TypeError) and "no loader" in str(error):
        return "it includes another file, which chat templates cannot"
    said = shown(error, 200).rstrip(".") or type(error).__name__
    return said if isinstance(error, TemplateError) else f"it fails with {type(error).__name__} ({said})"


def _header(spoken: str, message: Message) -> str:
    """What the template writes before the message's text."""
    text = "".join(part["text"] for part in message["content"] if part["type"] == "text").strip()
    return spoken[: max(spoken.find(text[:200]), 0)] if text else ""


def _require_in_order(messages: Sequence[Message], order: Sequence[int], text: str, where: str) -> None:
    """Raise `RowError` unless the texts of the messages follow one another in `text`; spaces do not count."""
    rendered, position = "".join(text.split()), 0
    for number in order:
        for part in messages[number]["content"]:
            wanted = "".join(part.get("text", "").split())
            found = rendered.find(wanted, position)
            if found < 0:
                raise _left_out(messages[number]["role"], part["text"], where)
            position = found + len(wanted)


def _left_out(role: str, text: str, where: str) -> RowError:
    what = f"the chat template leaves out or changes the {role}'s text {text.strip()[:60]!r}"
    return RowError("template changes the text", where, what)


def _continuation(written: str, text: str, where: str) -> str:
    if text.startswith(written):
        return text[len(written) :]
    at = next((i for i, (a, b) in enumerate(zip(written, text, strict=False)) if a != b), min(len(written), len(text)))
    what = (
        f"the chat template rewrites the prompt once it is answered: {written[at : at + 30]!r} becomes "
        f"{text[at : at + 30]!r}; the prompt must be a prefix of prompt + response"
    )
    raise RowError("template changes the text", where, what)
