"""`sightline data check` and `show`: defects by name, duplicates, shortcuts, a page to look at rows.

Start at `report.py`.
"""
