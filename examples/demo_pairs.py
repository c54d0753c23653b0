"""Two dozen preference pairs on photographs that scikit-image and scikit-learn ship; nothing is copied from them.

    pip install scikit-image scikit-learn
    python examples/demo_pairs.py demo/pairs.parquet
    sightline data check demo/pairs.parquet

The rejected answer names something that is not in the image, or gets a colour, a number or a place wrong. Lengths are
balanced: neither side is the longer one more often than the other. The photographs are in the public domain, CC0, or
(china.jpg, flower.jpg) CC-BY-2.0.
"""

import io
import sys
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

PAIRS = [
    ("coffee", "What is in the cup?", "Coffee, with a light brown crema.", "Green tea with a slice of lemon."),
    ("coffee", "What lies on the saucer?", "A small metal spoon.", "Two sugar cubes and a biscuit."),
    ("coffee", "What colour is the saucer?", "It is red, like the outside of the cup.", "It is white."),
    ("coffee", "Describe the image.", "A red cup on a red saucer stands on a wooden table.",
     "A red cup and a glass of water stand on a wooden table next to a newspaper."),
    ("cat", "Which animal is this?", "A tabby cat.", "A young fox with pointed ears."),
    ("cat", "What colour are its eyes?", "They are green.", "They are a bright blue."),
    ("cat", "Is the cat wearing a collar?", "No, no collar can be seen on it.", "Yes, a red one with a bell."),
    ("cat", "Describe the image.", "A close view of a tabby cat's face; it looks past the camera.",
     "A tabby cat sleeps on a sofa."),
    ("retina", "What is this?", "The retina of an eye with its blood vessels.", "The planet Mars with its canals."),
    ("retina", "Where is the bright spot?", "At the left edge, where the vessels meet.", "In the middle of the disc."),
    ("retina", "What is around the disc?", "Black.", "A white frame with a scale in millimetres."),
    ("astronaut", "What is the woman wearing?", "An orange space suit.", "A white space suit with gold stripes."),
    ("astronaut", "Which flag is behind her?", "The flag of the United States.", "The flag of Canada."),
    ("astronaut", "What stands on the right?", "A model of a space shuttle with its tank and boosters.", "A globe."),
    ("astronaut", "Where is her helmet?", "In front of her, at the lower right.", "On her head, its visor open."),
    ("rocket", "What stands in the middle?", "A white rocket on its launch pad.", "A lighthouse with its lamp lit."),
    ("rocket", "What time of day is it?", "It is dusk or dawn: the sky is dark blue.", "Noon."),
    ("rocket", "How many lattice towers are there?", "Four of them.", "There is one, to the left of the rocket."),
    ("galaxies", "What are the bright spots?", "Galaxies in the dark of space.", "City lights, seen from a plane."),
    ("galaxies", "Is the Moon in the image?", "No.", "Yes, it is the large disc near the upper left corner."),
    ("temple", "What kind of building is this?", "A Chinese pavilion of several storeys.", "A Gothic cathedral."),
    ("temple", "What is behind the building?", "A wide lake under a pale blue sky.", "A row of skyscrapers."),
    ("flower", "What colour is the flower?", "Orange.", "Purple, with a white rim on each petal."),
    ("flower", "What else is in the image?", "Part of a second flower, at the bottom edge.", "A bee."),
]  # fmt: skip
"""(photograph, question, chosen, rejected)."""


@cache
def photograph(name: str) -> Image.Image:
    """A photograph from the installed packages, RGB."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    pixels = {
        "coffee": skimage.data.coffee,
        "cat": skimage.data.chelsea,
        "retina": skimage.data.retina,
        "astronaut": skimage.data.astronaut,
        "rocket": skimage.data.rocket,
        "galaxies": skimage.data.hubble_deep_field,
        "temple": lambda: load_sample_image("china.jpg"),
        "flower": lambda: load_sample_image("flower.jpg"),
    }[name]()
    return Image.fromarray(np.asarray(pixels))


@cache
def jpeg(name: str, longest: int = 640) -> bytes:
    """The photograph as a JPEG file of at most `longest` pixels a side."""
    image = photograph(name).copy()
    image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def rows() -> list[dict]:
    """The pairs as RLAIF-V rows with embedded images."""
    return [
        {"image": {"bytes": jpeg(name), "path": f"{name}.jpg"}, "question": q, "chosen": c, "rejected": r}
        for name, q, c, r in PAIRS
    ]


def main() -> None:
    """Write the pairs as parquet."""
    import datasets

    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/demo_pairs.py FILE.parquet")
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    datasets.disable_progress_bars()
    pairs = datasets.Dataset.from_list(rows()).cast_column("image", datasets.Image())
    pairs.to_parquet(str(target))
    print(f"{target}: {len(pairs)} pairs on {len({name for name, *_ in PAIRS})} photographs")


if __name__ == "__main__":
    main()
