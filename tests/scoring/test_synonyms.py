"""Objects in captions: plurals of every kind, synonyms, longer names first."""

import pytest

from sightline.scoring.nouns import singular
from sightline.scoring.synonyms import Named, Names


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        # regular
        ("dog", "dogs"), ("bus", "buses"), ("box", "boxes"), ("bench", "benches"), ("toothbrush", "toothbrushes"),
        ("dress", "dresses"), ("quiz", "quizes"), ("tie", "ties"), ("shoe", "shoes"), ("vase", "vases"),
        # -y, -f, -fe, -o
        ("pony", "ponies"), ("baby", "babies"), ("toy", "toys"), ("cherry", "cherries"), ("knife", "knives"),
        ("leaf", "leaves"), ("loaf", "loaves"), ("wolf", "wolves"), ("shelf", "shelves"), ("roof", "roofs"),
        ("giraffe", "giraffes"), ("scarf", "scarfs"), ("scarf", "scarves"), ("wife", "wives"), ("potato", "potatoes"),
        ("piano", "pianos"), ("tomato", "tomatoes"),
        # -man and the irregular ones
        ("man", "men"), ("woman", "women"), ("fireman", "firemen"), ("snowman", "snowmen"), ("person", "people"),
        ("child", "children"), ("mouse", "mice"), ("goose", "geese"), ("tooth", "teeth"), ("foot", "feet"),
        ("ox", "oxen"), ("die", "dice"), ("louse", "lice"), ("grandchild", "grandchildren"),
        # from Latin, Greek, French
        ("cactus", "cacti"), ("cactus", "cactuses"), ("octopus", "octopi"), ("fungus", "fungi"), ("bureau", "bureaux"),
        ("hippopotamus", "hippopotami"), ("antenna", "antennae"), ("gateau", "gateaux"),
        # the same in the plural
        ("sheep", "sheep"), ("fish", "fish"), ("fish", "fishes"), ("aircraft", "aircraft"), ("scissors", "scissors"),
        # of several words
        ("teddy bear", "teddy bears"), ("hot dog", "hot dogs"), ("policewoman", "policewomen"),
        ("wine glass", "wine glasses"), ("cup of tea", "cups of tea"), ("mother-in-law", "mothers-in-law"),
        ("t-shirt", "T-shirts"), ("traffic light", "traffic lights"), ("loaf of bread", "loaves of bread"),
    ],
)  # fmt: skip
def test_a_plural_names_the_object(name: str, plural: str) -> None:
    names = Names.parse(name)
    assert names.in_text(f"Two {plural}, a {name}.") == [name, name]
    assert names.object_of(plural) == name


@pytest.mark.parametrize(
    ("vocabulary", "text"),
    [
        ("bus", "A business."), ("dog", "A hotdog and dogma."), ("glass", "Grass."), ("men", "An omen."),
        ("car", "A card, cares, a scar."), ("hot dog", "It is hot, dog."), ("bear", "It bore."),
        ("glasses", "A glass of milk."), ("news", "A new car."), ("bus", "He bused it: busy."),
    ],
)  # fmt: skip
def test_other_words_do_not_name_it(vocabulary: str, text: str) -> None:
    assert Names.parse(vocabulary).in_text(text) == []


def test_synonyms_count_in_the_plural_and_the_longest_name_wins() -> None:
    names = Names.parse("dog, puppy\nhot dog\nperson, man, woman, lady\n")
    text = "Two puppies? No: a hot dog, two Hot Dogs and three Men, one woman, some ladies."
    assert names.in_text(text) == ["dog", "hot dog", "hot dog", "person", "person", "person"]
    assert names.named("The ladies' Puppies.") == [Named("ladies", "person"), Named("Puppies", "dog")]
    assert Names.parse("").in_text("anything") == []


def test_a_vocabulary_in_the_plural_is_found_in_the_singular() -> None:
    names = Names.parse("dogs, puppies\nknives\nskis\n")
    assert names.in_text("A dog, a puppy, one knife, dogs and a ski.") == ["dogs", "dogs", "knives", "dogs", "skis"]


def test_what_a_row_lists_can_be_named_besides() -> None:
    names = Names.parse("dog, puppy\n").including(["Zebra", "puppies"])
    assert names.in_text("Two zebras and a puppy.") == ["zebra", "dog"]


def test_the_lemma_is_the_shortest_form_that_the_vocabulary_holds() -> None:
    assert singular("glasses", {"glass", "glasses"}) == "glass"
    assert singular("women", {"woman"}) == "woman"
    assert singular("axes", {"axis", "ax"}) == "ax"
    assert singular("Dogs", {"dog"}) is None
