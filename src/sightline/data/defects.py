"""The names of everything that can be wrong with a row, and how each is fixed."""

from sightline.errors import DataError

FIXES = {
    "image missing": "Put the file there, or set data.media_dir to the folder that image paths are relative to.",
    "image undecodable": "Replace the file by a whole JPEG, PNG, WebP, GIF, BMP or TIFF, or remove the row.",
    "image outside media folder": "Set data.media_dir to a folder that holds every image.",
    "image from the network": "Download the images first and give their paths.",
    "images differ from placeholders": "Give one image for each placeholder, or no placeholder at all.",
    "media not read": "Name a column of images in data.columns (images: NAME); list any other in data.ignore_columns.",
    "columns disagree": "Keep one of them, or say in data.columns which is meant.",
    "key not read": "Write what it says into the messages' text, or remove it; list a column in data.ignore_columns.",
    "choices not shown": "Write the choices into the question: the model sees no other column.",
    "format not recognised": "Name the columns prompt or question, chosen and rejected, or answer; see docs/data.md.",
    "column has the wrong type": "Fix the value; docs/data.md shows a row of every format.",
    "row unreadable": "Fix the line, or remove it.",
    "no user turn": "Begin the conversation with a user message.",
    "response missing": "Give the row its responses: chosen and rejected for pairs, an answer for demonstrations.",
    "label missing": "Give the row a `label` (true for a desirable response), or chosen and rejected.",
    "response empty": "Write the response, or remove the row.",
    "chosen equals rejected": "Remove the row: a pair of equal responses teaches nothing.",
    "control token in text": "Remove it from the text; where it is meant (grounding), list it in data.allow_tokens.",
    "template changes the text": "Use a model whose chat template writes messages as they are.",
    "template refuses the conversation": "Change the roles or their order to what the model's chat template accepts.",
    "processor refuses the row": "Fix or remove the image, or change the processor's options in model.processor.",
    "near-equal pair": "Sharpen the difference, or remove the row: only case, spaces or punctuation differ.",
    "answer in the prompt": "Remove the answer from the prompt, or the row.",
    "two assistant turns": "Join the two turns, or put the user's turn between them.",
    "image too small": "Use a larger image: it is blown up until nothing can be seen.",
    "several frames": "Save the page or frame that is meant as an image of its own: only the first one is used.",
    "image too large": "Raise the resolution in model.processor, or crop: detail is lost when it is shrunk.",
    "duplicate row": "Remove the copies: they count more than once.",
    "image in two splits": "Cut by image with `sightline data split`.",
    "contradicting labels": "Decide which of the answers is the better one.",
    "length bias": "Balance lengths, or use a length-normalised objective: length alone tells chosen from rejected.",
    "one-word shortcut": "Rewrite or balance: one word alone tells chosen from rejected.",
    "text too long": "Shorten the text, or remove the row.",
    "overlong": "Raise data.max_length; by data.on_overlong such rows are skipped, or their responses trimmed.",
}
"""Defect → what the user can do about it."""


class RowError(DataError):
    """A row that cannot be used.

    defect: its name, a key of `FIXES`. where: source and row. what: what was found and what was expected.
    """

    def __init__(self, defect: str, where: str, what: str) -> None:
        super().__init__(defect, where, what)
        self.defect, self.where, self.what = defect, where, what

    @property
    def finding(self) -> str:
        """What was found and where, without the fix."""
        return f"{self.where}: {self.what}"

    def __str__(self) -> str:
        return f"{self.finding} ({self.defect}). {FIXES[self.defect]}"
