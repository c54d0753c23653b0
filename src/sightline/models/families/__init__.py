"""What differs between model types: one file a family, one interface (`family.py`).

Start at `find.py`: `family_of(model)`.
"""
