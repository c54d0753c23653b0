"""What a user sees while training: progress, benchmark scores, memory messages.

Start at `scores.py`.
"""
