"""Images: what a row says of one, and reading it when it is needed.

Start at `find.py`.
"""
