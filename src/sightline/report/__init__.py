"""What a run leaves for people: curves as images, and one self-contained HTML page.

Start at `html.py` and `contents.py` (what a page holds); `comparison.py` is the page of `sightline compare`.
"""
