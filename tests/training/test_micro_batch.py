"""The group of dummy micro-batches."""

from sightline.models.families.find import family_of
from sightline.training.step.micro_batch import DummyGroup
from tests.groups import make_group


def test_the_smallest_group_with_an_image_is_kept_and_one_without_only_where_none_has_one(loaded):
    model, processor, _ = loaded("gemma3")  # whose inputs, other than pixels, are there without an image, too
    long, short = (make_group(processor, lengths=(length,)) for length in (30, 3))
    text = make_group(processor, sizes=(), lengths=(1,))
    assert text.model_inputs
    dummy = DummyGroup(family_of(model), lambda: long)
    assert dummy() is long
    for seen, kept in ([text], long), ([short, text], short), ([long], short):
        dummy.see(seen)
        assert dummy() is kept
    first = DummyGroup(family_of(model), lambda: long)
    first.see([text])
    assert first() is text
