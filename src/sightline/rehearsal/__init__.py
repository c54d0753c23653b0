"""The dress rehearsal of a recipe: all but the size is real, on a tiny model of the same family.

Start at `rehearse.py`; `shrink.py` makes the recipe small, `tiny_models.py` its model, `data.py`, `rows.py` its rows.
"""
