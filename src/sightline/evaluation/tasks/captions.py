"""CHAIR (arXiv:1809.02156) on any captioned set: `captions.jsonl` and `synonyms.txt` in a folder.

A row: `id`, `image`, and `objects` (what is in the picture) or `captions` (by people: the objects that they name are
there), and `companions` where expected but absent objects are known.
synonyms.txt: one object a line, its other names behind commas; COCO's list of the CHAIR repository has this form.
"""

from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluation.task import Item, Task
from sightline.evaluation.tasks.files import field, find, picture_in, read_rows
from sightline.evaluation.tasks.metrics import CAPTIONS
from sightline.scoring import chair
from sightline.scoring.ratio import Ratios, amount
from sightline.scoring.synonyms import objects_named, parse_synonyms

SOURCE = "one JSON object a line: id, image, objects or captions; and synonyms.txt"


def chair_task(folder: Path, synonyms: Path | None = None) -> Task:
    """Descriptions of the pictures, scored by CHAIR, Cover, Hal and (with companions) Cog. synonyms: another file."""
    path = find(folder, ("captions.jsonl", "captions.json"), SOURCE)
    if synonyms is not None and not synonyms.is_file():
        raise DataError(
            f"There is no file {synonyms}. --synonyms names one: an object a line, other names after commas."
        )
    names = parse_synonyms((synonyms or find(folder, ("synonyms.txt",), SOURCE)).read_text(encoding="utf-8"))

    def canonical(objects: list[str]) -> list[str]:
        return [names.get(name.lower(), name.lower()) for name in objects]

    def present(row: dict[str, Any], where: str) -> list[str]:
        if row.get("objects") is not None:
            return canonical(row["objects"])
        captions = field(row, ("captions", "caption"), where)
        captions = [captions] if isinstance(captions, str) else captions
        return list(dict.fromkeys(name for caption in captions for name in objects_named(caption, names)))

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
                    "companions": canonical(row.get("companions", [])),
                },
                picture_id=name,
                pictures=(picture_in(folder, name, where),),
            )
        )

    def score(item: Item, caption: str) -> Ratios:
        named = objects_named(caption, names)
        counts = chair.count_mentions(named, item.truth["present"], item.truth["companions"])
        return {**chair.judge(counts), "words": amount(len(caption.split()))}

    def marks(item: Item, caption: str) -> tuple[str, ...]:
        absent = {named for named in objects_named(caption, names) if named not in item.truth["present"]}
        return tuple(name for name, thing in names.items() if thing in absent)

    return Task(
        name="chair",
        title=f"CHAIR ({len(items):,} pictures, {len(set(names.values()))} objects)",
        items=items,
        scorer=score,
        metrics=CAPTIONS,
        correct="hal",
        max_new_tokens=256,
        marks=marks,
        truth_text=lambda item: ", ".join(item.truth["present"]),
    )
