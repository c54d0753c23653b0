"""`sightline pairs`: from images, or any rows, to preference pairs of the model's own completions.

Start at `make.py`.
"""
