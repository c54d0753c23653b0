"""What an answer settles on: past its reasoning, out of its tags and boxes, after "the answer is".

Every reader of answers, of rewards and of evaluation, begins here.
"""

import re
import unicodedata

LONGEST = 2000
"""Characters that braces may hold."""
TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL | re.IGNORECASE)
THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
STYLED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|emph)\s*\{([^{}]*)\}")
EMPHASIS = re.compile(r"(?<!\d)\*\*|\*\*(?!\d)|`|(?<![\w\\{])__(?=\w)|(?<=\w)__(?!\w)")
VERDICT = re.compile(
    r"""
    \b(?:answer|ans|solution|result|verdict)\b(?:\s+(?:to|for|of)\s[^.:=\n]{0,60}?)?\s*
      (?:(?:\bis\b|\bare\b|\bequals\b|\b(?:should|must|would)\s+be\b|\bseems\s+to\s+be\b)\s*:?|[:：=])
    | (?:正确)?(?:答案|选项)\s*(?:应该)?(?:是|为|选)?\s*[:：]?\s*(?=\S)
    | \b(?:respuesta|réponse|antwort|risposta|resposta|ответ)\b[^.:\n]{0,30}?
      (?:\b(?:es|est|ist|is|é)\b|\bè\b|[:—–-])\s*:?
    | \#{4}(?=\s*\S)
    """,
    re.IGNORECASE | re.VERBOSE,
)
HASHES = re.compile(r"(?:^|\s)#{4}\s*(\S[^\n]*)\s*$")
DENIED = re.compile(r"\s*(?:not\b|n['’]t\b|never\b|neither\b|unclear\b|unknown\b)", re.IGNORECASE)
CORRECTED = re.compile(
    r"\b(?:wait|actually|correction|sorry|mistaken?|oops|re-?check\w*|instead)\b|\bno,", re.IGNORECASE
)
CONCLUDED = re.compile(
    r"\b(?:finally|final|therefore|thus|hence|so|in conclusion|correct)\W+(?:\w+\W+){0,2}$", re.IGNORECASE
)
CLAUSE_END = re.compile(r"\n|[.!;。！；](?=\s|$|[)\"'”’])|[.。](?=[^\W\d])")


def final_answer(text: str) -> str:
    """The last `<answer>…</answer>` after the reasoning, else what follows `</think>`, else all of the text.

    A tag that is never closed, as of an answer that was cut, holds the rest; reasoning that never ends answers nothing.
    """
    if THOUGHT.search(text):
        said = THOUGHT.split(text)[-1]
    else:
        said = "" if text.lstrip().lower().startswith("<think") and not TAGGED.search(text) else text
    tagged = TAGGED.findall(said) or ([] if said.strip() else TAGGED.findall(text))
    return (tagged[-1] if tagged else said).strip()


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{…}`, whatever braces it holds; None without one."""
    found = None
    for box in BOX.finditer(text):
        end = closing(text, box.end())
        if end is not None:
            found = text[box.end() + 1 : end].strip()
    return found


def given(text: str) -> str:
    """The final answer out of its box, all of it: of truths, and for rules that compare the whole of an answer.

    Of a solution that ends as GSM8K's do ("#### 72"), what stands there.
    """
    said = final_answer(text)
    hashes = HASHES.search(said)
    return boxed(said) or (hashes.group(1).strip() if hashes else said)


def closing(text: str, start: int) -> int | None:
    """Where the brace that opens at `start` closes; None where it does not, or so far on that it is babble."""
    depth = 0
    for place in range(start, min(len(text), start + LONGEST)):
        if text[place] in "{}" and text[place - 1 : place] != "\\":
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return place
    return None


def verdict(text: str) -> str | None:
    """What follows the statement of the answer ("the answer is …", "Answer: …"), to the end of the text.

    Of several the first counts, unless a later one corrects it ("wait, …", "no, …") or concludes ("so the answer is",
    "final answer"). Denials ("the answer is not B") and questions are none.
    """
    chosen: str | None = None
    end = 0
    for found in VERDICT.finditer(text):
        rest = text[found.end() :]
        said = clause(rest)
        if not said or DENIED.match(rest) or rest[len(said) :].startswith("?") or said.endswith("?"):
            continue
        before = text[end : found.start()]
        sentence = CLAUSE_END.split(before)[-1]
        if chosen is None or CONCLUDED.search(sentence) or CORRECTED.search(before):
            chosen, end = rest, found.end()
    return chosen


def clause(text: str) -> str:
    """The text to the end of its first sentence or line."""
    text = text.lstrip(" \t*:：\n")
    return CLAUSE_END.split(text, maxsplit=1)[0].strip()


def bare(text: str) -> str:
    """Without Markdown's emphasis, LaTeX's words for styles, and `$` around the whole; Unicode composed."""
    text = unicodedata.normalize("NFC", text)
    text = STYLED.sub(r"\1", EMPHASIS.sub("", text)).strip()
    for start, end in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        inside = text[len(start) : -len(end)]
        if text.startswith(start) and text.endswith(end) and len(text) > len(start + end) and start not in inside:
            return inside.strip()
    return text


def settled(text: str) -> list[str]:
    """The parts of an answer that may be what it settles on, the likeliest first: its box, its verdict, all of it."""
    said = final_answer(text)
    inside = boxed(said)
    if inside is not None:
        return [inside]
    stated = verdict(EMPHASIS.sub("", said))
    return [said] if stated is None else [clause(stated), said]


def plain(text: str) -> str:
    """For comparing words: lower case, single spaces; no emphasis, quotes, closing full stop or leading article."""
    flat = " ".join(bare(text).casefold().replace("−", "-").split())
    flat = flat.strip("\"'“”‘’").removesuffix(".").strip("\"'“”‘’ ")
    return re.sub(r"^(?:a|an|the) (?=\S)", "", flat)
