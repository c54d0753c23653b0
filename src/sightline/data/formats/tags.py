"""Tags in a text that stand for images: `<image>`, and numbered ones such as `<image 2>`.

Also read: `<image_2>`, `<image-2>`, `<image2>`, `<|image|>`, `<|image_2|>`, `<ImageHere>`, `<image_placeholder>` and
Qwen's three tokens around an image. Upper and lower case do not matter.
"""

import re

TAG = re.compile(
    r"<image(?:[ _-]?(\d{1,4}))?>|<\|image(?:_(\d{1,4}))?\|>|<ImageHere>|<image_placeholder>"
    r"|<\|vision_start\|><\|image_pad\|><\|vision_end\|>",
    re.IGNORECASE,
)
OTHER_MEDIA = re.compile(r"^\s*<(video|audio)>|<(video|audio)>\s*$", re.IGNORECASE)
"""What stands for a film or a sound: such a tag at the edge of a text. Inside a sentence it is text."""


def split_at_tags(text: str) -> list[str | int | None]:
    """Stretches of text, and for each tag its number, or None; a line break next to a tag goes with it."""
    pieces: list[str | int | None] = []
    end = 0
    for match in TAG.finditer(text):
        before = text[end : match.start()]
        pieces.append(_without_breaks(before, after_tag=end > 0, before_tag=True))
        number = match.group(1) or match.group(2)
        pieces.append(None if number is None else int(number))
        end = match.end()
    pieces.append(_without_breaks(text[end:], after_tag=end > 0, before_tag=False))
    return [piece for piece in pieces if piece != ""]


def num_tags(text: str) -> int:
    """How many tags a text holds."""
    return sum(1 for _ in TAG.finditer(text))


def _without_breaks(text: str, *, after_tag: bool, before_tag: bool) -> str:
    text = text.removeprefix("\n") if after_tag else text
    return text.removesuffix("\n") if before_tag else text
