"""The comparison app: ask several models about one image and watch them answer. Needs the extra `app`.

Start at `page.py`.
"""
