"""The dress rehearsal of a recipe: everything but the size is real, on a tiny model of the same family and a few rows."""
