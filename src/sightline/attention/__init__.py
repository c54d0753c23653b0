"""Attention kernels for rows in which several responses share a prompt.

Start at `attention.py` (CPU kernel and dense masks); `flex.py` is FlexAttention's block mask.
"""
