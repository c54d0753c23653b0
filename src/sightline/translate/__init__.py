"""Other projects' configs → recipes. Nothing is dropped: what has no counterpart is listed with the reason.

Start at `translation.py`; `trl.py` and `llamafactory.py` read, the `…_keys.py` files are their tables.
"""
