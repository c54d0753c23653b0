"""The dress rehearsal of a recipe: all but the size is real, on a tiny model of the same family."""
