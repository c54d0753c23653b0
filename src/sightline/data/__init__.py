"""Data: from a source (files, hub, registry) over formats to rows, checked and rendered as groups of token ids.

Start at `rows.py`. Rooms: `sources`, `formats`, `media` (images), `render`, `stream`, `checks`.
"""
