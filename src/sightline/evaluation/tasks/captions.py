"""CHAIR (arXiv:1809.02156) on any captioned set: `captions.jsonl` and `synonyms.txt` in a folder.

A row: `id`, `image`, and `objects` (what is in the image) or `captions` (by people: the objects that they name are
there), and `companions` where expected but absent objects are known.
synonyms.txt: one object a line, its other names after commas; COCO's list of the CHAIR repository has this form.
"""

from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluation.task import Item, Task
from sightline.evaluation.tasks.files import field, find, image_in, read_rows, told_apart
from sightline.evaluation.tasks.metrics import CAPTIONS
from sightline.scoring import chair
from sightline.scoring.ratio import Ratios, amount
from sightline.scoring.settled import final_answer
from sightline.scoring.synonyms import Named, Names

SOURCE = "one JSON object a line: id, image, objects or captions; and synonyms.txt"


def chair_task(folder: Path, synonyms: Path | None = None) -> Task:
    """Descriptions of the images, scored by CHAIR, Cover, Hal and (with companions) Cog. synonyms: another file."""
    path = find(folder, ("captions.jsonl", "captions.json"), SOURCE)
    if synonyms is not None and not synonyms.is_file():
        raise DataError(
            f"There is no file {synonyms}. --synonyms names one: an object a line, other names after commas."
        )
    names = Names.parse((synonyms or find(folder, ("synonyms.txt",), SOURCE)).read_text(encoding="utf-8"))

    def present(row: dict[str, Any], where: str) -> list[str]:
        if row.get("objects") is not None:
            return _list(row["objects"], "objects", where)
        captions = field(row, ("captions", "caption"), where)
        captions = [captions] if isinstance(captions, str) else captions
        return list(dict.fromkeys(name for caption in captions for name in names.in_text(caption)))

    items = []
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}, row {number}"
        name = str(field(row, ("image",), where))
        items.append(
            Item(
                id=str(row.get("id", number)),
                question=str(row.get("question", "Describe this image.")),
                truth={
                    "present": present(row, where),
                    "companions": _list(row.get("companions") or [], "companions", where),
                },
                image_id=name,
                images=(image_in(folder, name, where),),
            )
        )

    items, notes = told_apart(items)

    def read(item: Item, caption: str) -> tuple[list[Named], list[str | None], list[str | None]]:
        """What the caption names, what is there, and what one would expect: all as objects."""
        present, companions = item.truth["present"], item.truth["companions"]
        # what a row lists can be named on it, also where the synonyms lack it
        known = names.including([*present, *companions])
        return known.named(final_answer(caption)), [*map(known.object_of, present)], [*map(known.object_of, companions)]

    def score(item: Item, caption: str) -> Ratios:
        named, present, companions = read(item, caption)
        counts = chair.count_mentions([one.object for one in named], present, companions)
        return {**chair.judge(counts), "words": amount(len(caption.split()))}

    def marks(item: Item, caption: str) -> tuple[str, ...]:
        named, present, _ = read(item, caption)
        return tuple(dict.fromkeys(one.text for one in named if one.object not in present))

    return Task(
        name="chair",
        title=f"CHAIR ({len(items):,} images, {len(set(names.objects.values()))} objects)",
        items=items,
        scorer=score,
        metrics=CAPTIONS,
        correct="hal",
        max_new_tokens=256,
        marks=marks,
        truth_text=lambda item: ", ".join(item.truth["present"]),
        notes=notes,
    )


def _list(value: Any, name: str, where: str) -> list[str]:
    """Objects as a list, or as a text with commas."""
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise DataError(f"{where}: `{name}` is {value!r:.60}; a list of names is expected.")
    return [one.strip() for one in found if one.strip()]
