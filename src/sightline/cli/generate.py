"""`sightline generate MODEL [--adapter A] --image P --prompt TEXT`."""

import json
import sys
from pathlib import Path

from sightline.cli.arguments import Arguments, add_model_flags, file_name, loading, model_name, positive, real, seed
from sightline.errors import DataError


def run(argv: list[str]) -> int:
    """Print the model's answer, or several samples, one a paragraph."""
    arguments = Arguments("generate", "Answer a question about one or more images.")
    arguments.add_argument("model", metavar="MODEL", type=model_name, help="hub id, folder, run folder, or `embedded`")
    arguments.add_argument("--adapter", type=file_name, help="LoRA adapter on MODEL, a folder or hub id")
    arguments.add_argument("--image", action="append", default=[], help="image file; may be given several times")
    arguments.add_argument("--prompt", required=True, help="the question")
    arguments.add_argument("--temperature", type=real(0, 100), default=0.0, help="0 is greedy [0]")
    arguments.add_argument("--top-p", type=real(0, 1), default=1.0, help="nucleus sampling with a temperature [1]")
    arguments.add_argument("--num", type=positive, default=1, help="how many answers [1; more need a temperature]")
    arguments.add_argument("--seed", type=seed, default=0, help="seed of sampling [0]")
    arguments.add_argument("--json", action="store_true", help="print the answers as a JSON list and nothing else")
    add_model_flags(arguments, longest="256")
    given = arguments.parse(argv)
    if given.temperature < 0 or (given.num > 1 and given.temperature == 0):
        arguments.error(f"{given.num} answers at temperature {given.temperature:g}: give --temperature above 0")

    from sightline.cli.terminal import quiet

    quiet()
    from sightline.data.defects import RowError
    from sightline.data.media.images import LazyImage
    from sightline.evaluation.models import Models, source_of
    from sightline.generation.generate import generate
    from sightline.generation.text import CompletionText
    from sightline.models.families.find import family_of
    from sightline.types import Example

    images = tuple(LazyImage(where="--image", path=Path(path)) for path in given.image)
    for image in images:
        try:
            image.open()  # an image that cannot be read is named before the model is loaded
        except RowError as error:
            kinds = "JPEG, PNG, WebP, GIF, BMP or TIFF"
            raise DataError(f"{error.finding}. Give the path of an image that is there, {kinds}.") from error
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": given.prompt}]
    message = {"role": "user", "content": content}
    source = source_of(given.model, given.adapter)
    models = Models([source], **loading(given))
    asking = models.asking(source.label)
    if (note := models.asking_note()) is not None:
        print(note, file=sys.stderr)
    with models.use(source.label) as (model, processor):
        example = Example(id="prompt", source="--prompt", row_number=0, prompt=(message,), images=images)
        (answers,) = generate(
            model,
            processor,
            [asking.renderer(processor).prompt(asking.example(example))],
            max_new_tokens=given.max_new_tokens or 256,
            do_sample=given.temperature > 0,
            temperature=given.temperature or 1.0,
            top_p=given.top_p,
            num_return=given.num,
            seed=given.seed,
        )
    texts = [text.strip() for text in map(CompletionText.of(processor, family_of(model)), answers)]
    print(json.dumps(texts, ensure_ascii=False) if given.json else "\n".join(texts))
    return 0
