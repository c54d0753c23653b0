"""The group that a process sits out others' turns with."""

from sightline.models.families.find import family_of
from sightline.training.step.micro_batch import Spare
from tests.groups import make_group


def test_the_smallest_group_with_a_picture_is_kept_and_one_without_only_where_none_has_one(loaded):
    model, processor, _ = loaded("gemma3")  # whose inputs, other than pixels, are there without a picture, too
    long, short = (make_group(processor, lengths=(length,)) for length in (30, 3))
    text = make_group(processor, sizes=(), lengths=(1,))
    assert text.model_inputs
    spare = Spare(family_of(model), lambda: long)
    assert spare() is long
    for seen, kept in ([text], long), ([short, text], short), ([long], short):
        spare.see(seen)
        assert spare() is kept
    first = Spare(family_of(model), lambda: long)
    first.see([text])
    assert first() is text
